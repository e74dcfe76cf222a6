"""Requests of which hardly two are alike, so that whatever keeps what it has seen shows that it does."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from client import Address, WrongAnswerError

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
PATIENCE_S = 60.0  # a machine may have other work
CLIENTS = 200  # addresses out of 127.0.0.0/8 that the requests come from


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and the status that it must be answered with."""

    path: str
    status: int
    headers: tuple[str, ...]
    client: str
    body: str = ""  # what has one is a POST

    def encode(self, host: str) -> bytes:
        """Return it as it goes over the wire."""
        method = "POST" if self.body else "GET"
        lines = [f"{method} {self.path} HTTP/1.1", f"Host: {host}", "Accept: */*", *self.headers]
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n" + self.body).encode()


def make_requests(start: int) -> Iterator[Request]:
    """Yield requests without end; each number from `start` on always makes the same one.

    Of 64, 18 have a path of their own (one of these is a 404, one raises), one asks the database, and
    the rest is `/ok/`. Each second one has a request id of its own, each eighth a browser of its own.
    """
    for number in itertools.count(start):
        turn = number % 64
        path, status = "/ok/", 200
        if turn == 3:
            path, status = f"/nothing/{number}/", 404
        elif turn == 7:
            path, status = f"/fails/number-{number}/", 500
        elif turn == 11:
            path = "/queries/2/"
        elif turn % 4 == 0:
            path = f"/items/number-{number}/"
        browser = f"{BROWSER} build/{number}" if number % 8 == 5 else BROWSER
        headers = [f"User-Agent: {browser}"]
        if number % 2:
            headers.append(f"X-Request-ID: request-{number:09d}")
        if number % 16 == 9:
            headers.append(f"Referer: http://127.0.0.1/items/number-{number - 1}/?page={number}")
        client = f"127.0.0.{2 + number // 32 % CLIENTS}"
        yield Request(path, status, tuple(headers), client)


def send_all(address: Address, requests: list[Request]) -> None:
    """Send all at once, a connection each, then read all answers: the server never waits for us."""
    connections = [_send(address, request) for request in requests]
    for request, connection in zip(requests, connections, strict=True):
        _read(connection, request)


def ask(address: Address, request: Request) -> str:
    """Send one request and return the body of its answer."""
    return _read(_send(address, request), request).partition(b"\r\n\r\n")[2].decode()


def _send(address: Address, request: Request) -> socket.socket:
    source = (request.client, 0)
    connection = socket.create_connection(address, PATIENCE_S, source_address=source)
    connection.sendall(request.encode(f"{address[0]}:{address[1]}"))
    return connection


def _read(connection: socket.socket, request: Request) -> bytes:
    answer = b""
    with connection:
        while piece := connection.recv(65536):
            answer += piece
    if not answer.startswith(f"HTTP/1.1 {request.status} ".encode()):
        raise WrongAnswerError(f"GET {request.path} was answered with {answer[:300]!r}")
    return answer
