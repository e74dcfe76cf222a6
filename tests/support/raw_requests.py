"""Requests sent over a socket, for answers that no HTTP client accepts or waits for."""

from __future__ import annotations

import socket
import struct

from tests.support.servers import Server


def send(site: Server, path: str) -> bytes:
    """Send a request under an id made of its path; return whatever comes back."""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id(path)}\r\n\r\n"
    return site.send(head.encode())


def request_id(path: str) -> str:
    """Return the id that `send` gives to a path."""
    return path.strip("/").replace("?", ".")


def status_of(site: Server, path: str, request_id: str) -> int | None:
    """Send one request; return its status, or None if the connection broke."""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n\r\n"
    try:
        answer = site.send(head.encode())
    except OSError:
        return None
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else None


def begin(site: Server, path: str, request_id: str) -> socket.socket:
    """Send a request and return its connection."""
    connection = site.connect()
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def leave(connection: socket.socket) -> None:
    """Close a connection so that the other side gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def leave_stream(site: Server, path: str, request_id: str) -> None:
    """Begin to receive a long stream, and leave."""
    connection = begin(site, path, request_id)
    connection.recv(100)
    leave(connection)
