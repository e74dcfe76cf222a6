"""The place where OTLP over HTTP ends: answers 200 to all, and counts later what came."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SERVER_KIND = 2  # opentelemetry/proto/trace/v1/trace.proto, SPAN_KIND_SERVER
KIND_FIELD = 6
RESOURCES_FIELD, SCOPES_FIELD, ITEMS_FIELD = 1, 2, 2  # the same nesting for all three signals


@dataclass(frozen=True, slots=True)
class Received:
    """What one row has sent."""

    posts: int = 0
    spans: int = 0
    server_spans: int = 0
    log_records: int = 0
    metrics: int = 0


class Sink(ThreadingHTTPServer):
    """Keeps bodies by row, undecoded, so that decoding never runs while a row is measured."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()  # guards _bodies; held for one append or pop, nothing else
        self._bodies: dict[str, list[tuple[str, bytes]]] = {}
        self._thread = threading.Thread(target=self.serve_forever, name="otlp-sink", daemon=True)

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """Return the base address; a row appends its name."""
        return f"http://127.0.0.1:{self.server_port}"

    def keep(self, row: str, signal: str, body: bytes) -> None:
        """Put one body away."""
        with self._lock:
            self._bodies.setdefault(row, []).append((signal, body))

    def take(self, row: str) -> Received:
        """Decode, forget and return what the row has sent since the last call."""
        with self._lock:
            bodies = self._bodies.pop(row, [])
        spans = [item for signal, body in bodies if signal == "traces" for item in _items(body)]
        return Received(
            posts=len(bodies),
            spans=len(spans),
            server_spans=sum((KIND_FIELD, SERVER_KIND) in _fields(span) for span in spans),
            log_records=sum(_count(body) for signal, body in bodies if signal == "logs"),
            metrics=sum(_count(body) for signal, body in bodies if signal == "metrics"),
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def do_POST(self) -> None:
        """Take `/<row>/v1/<signal>`."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        row, _, signal = self.path.strip("/").split("/")
        self.server.keep(row, signal, body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _items(body: bytes) -> Iterator[bytes]:
    for resource in _messages(body, RESOURCES_FIELD):
        for scope in _messages(resource, SCOPES_FIELD):
            yield from _messages(scope, ITEMS_FIELD)


def _count(body: bytes) -> int:
    return sum(1 for _ in _items(body))


def _messages(message: bytes, wanted: int) -> Iterator[bytes]:
    for number, value in _fields(message):
        if number == wanted and isinstance(value, bytes):
            yield value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Walk one protobuf message: field number and value; fixed-size values are passed by."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(message, at)
            yield number, message[at : at + size]
            at += size
        else:
            at += {1: 8, 5: 4}[wire]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
