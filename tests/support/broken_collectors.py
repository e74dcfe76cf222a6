"""Collectors that don't take what is sent, and what a server says about its losses."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.servers import Server

REQUESTS_SENT = 40
FLUSH_S = 1.0
#: What Gunicorn itself needs to stop, and a machine with other work; the bound is ours.
GUNICORN_STOPS_S = 4.0
COMPLAINT = re.compile(r"otel-canonical: (.*) could not be sent to the collector(.*)")


@contextlib.contextmanager
def broken_collector(answer: Callable[[socket.socket], None] | None) -> Iterator[str]:
    """Yield an endpoint that answers connections by `answer`, or refuses them if that is None."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if answer is None:
            yield endpoint
            return
        listener.listen(64)
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                kept.append(connection)
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=serve, name="broken-collector")
        thread.start()
        yield endpoint
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


def hang(connection: socket.socket) -> None:
    """Never answer."""


def unavailable(connection: socket.socket) -> None:
    """Answer every request with 503."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")


def garbage(connection: socket.socket) -> None:
    """Answer with what is no HTTP."""
    with contextlib.suppress(OSError):
        connection.recv(65536)
        connection.sendall(b"\x00\x01 no such thing\r\n\r\n")
        connection.close()


def redirecting(connection: socket.socket) -> None:
    """Answer every request with a redirect, as a proxy that wants https does."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            connection.sendall(
                b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n"
            )
            connection.close()


BROKEN = {
    "redirecting": redirecting,
    "down": None,
    "hanging": hang,
    "unavailable": unavailable,
    "garbage": garbage,
}


def latencies_ms(server: Server) -> list[float]:
    """Send the requests; return how long each took."""
    took = []
    for n in range(REQUESTS_SENT):
        started = time.perf_counter()
        assert server.get("/ok/", X_Request_ID=f"r{n}").status == 200
        took.append((time.perf_counter() - started) * 1e3)
    return sorted(took)


def complaints(server: Server) -> list[tuple[str, str]]:
    """Return what was said of losses: how much, and the rest of it."""
    return COMPLAINT.findall(server.stderr.read_text())


def lost(server: Server) -> Counter[str]:
    """Return the sum of what was said to be lost."""
    total: Counter[str] = Counter()
    for what, _ in complaints(server):
        for count, kind in re.findall(r"(\d+) (spans|log records|reports of metrics)", what):
            total[kind] += int(count)
    return total


def noise(server: Server) -> list[str]:
    """Return what the SDK itself said of its troubles."""
    return [
        line
        for line in server.stderr.read_text().splitlines()
        if "otel-canonical: " not in line
        and re.search(r"Transient|Failed to export|Traceback|Queue full|already shutdown", line)
    ]


def impatient_settings(endpoint: str, directory: Path, **more: str) -> dict[str, str]:
    """Return the environment of a site that exports spans and events quickly, and gives up soon."""
    return {
        "SITE_DIRECTORY": str(directory),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        "OTEL_PYTHON_CANONICAL_APP_LOGS": "false",
        "OTEL_PYTHON_CANONICAL_FLUSH_SECONDS": str(FLUSH_S),
        **more,
    }


def stop_s(server: Server) -> float:
    """Stop the server; return how long that took."""
    started = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    server.process.wait(60)
    return time.monotonic() - started
