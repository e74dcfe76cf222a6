"""The load: one request after the other over loopback, as light as a client can be."""

from __future__ import annotations

import socket

Address = tuple[str, int]
PATIENCE_S = 10.0
OK = b"HTTP/1.1 200 "


class WrongAnswerError(Exception):
    """The server said something other than 200; the message holds the beginning of it."""


def send_requests(address: Address, path: str, count: int, patience_s: float = PATIENCE_S) -> None:
    """Ask `count` times, a new connection each, as sync workers close theirs; all must be 200."""
    request = (
        f"GET {path} HTTP/1.1\r\n"
        f"Host: {address[0]}:{address[1]}\r\n"
        "User-Agent: otel-canonical-benchmark\r\n"
        "Accept: */*\r\n\r\n"
    ).encode()
    for _ in range(count):
        answer = _ask(address, request, patience_s)
        if not answer.startswith(OK):
            raise WrongAnswerError(f"GET {path} was answered with {answer[:300]!r}")


def _ask(address: Address, request: bytes, patience_s: float) -> bytes:
    with socket.create_connection(address, timeout=patience_s) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer
