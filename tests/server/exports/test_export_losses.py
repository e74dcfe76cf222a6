"""A collector that doesn't take what is sent: requests don't notice, a stop is short, losses are told."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.otlp_sink import otlp_sink
from tests.support.servers import Server, eventually, gunicorn

REQUESTS = 40
FLUSH_S = 1.0
#: What Gunicorn itself needs to stop, and a machine with other work; the bound is ours.
GUNICORN_STOPS_S = 4.0

COMPLAINT = re.compile(r"otel-canonical: (.*) could not be sent to the collector(.*)")


@contextlib.contextmanager
def broken_collector(answer: Callable[[socket.socket], None] | None) -> Iterator[str]:
    """Yield the endpoint of something that is no collector; None: nobody listens there."""
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


BROKEN = {"down": None, "hanging": hang, "unavailable": unavailable, "garbage": garbage}


def latencies_ms(server: Server) -> list[float]:
    """Send the requests; return how long each took."""
    took = []
    for n in range(REQUESTS):
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


def settings(endpoint: str, directory: Path, **more: str) -> dict[str, str]:
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


@pytest.mark.parametrize("kind", BROKEN)
def test_loss_is_counted_and_said_once_when_collector_is_broken(kind: str, tmp_path: Path) -> None:
    """Answers as ever, one complaint with its reason, a stop within the bound, and exact counts."""
    with (
        broken_collector(BROKEN[kind]) as endpoint,
        gunicorn("every_kind", tmp_path, **settings(endpoint, tmp_path)) as server,
    ):
        took = latencies_ms(server)
        eventually(lambda: complaints(server), server.report)
        assert len(complaints(server)) == 1
        stopped_s = stop_s(server)
        print(
            f"\ncollector {kind}: median {statistics.median(took):.1f} ms, "
            f"p95 {took[int(0.95 * len(took))]:.1f} ms, stopped in {stopped_s:.2f} s"
        )
        assert stopped_s < FLUSH_S + GUNICORN_STOPS_S
        assert lost(server) == {"spans": REQUESTS, "log records": REQUESTS}, server.report()
        assert len(complaints(server)) <= 2
        assert re.search(r"no line is affected: \S+", server.stderr.read_text())
        assert noise(server) == []
        server.wait_for_lines(REQUESTS)


def test_full_queue_is_counted_when_collector_hangs(tmp_path: Path) -> None:
    """Memory is bounded by the SDK's queue; what it drops is told like the rest."""
    with (
        broken_collector(hang) as endpoint,
        gunicorn(
            "every_kind",
            tmp_path,
            **settings(
                endpoint,
                tmp_path,
                OTEL_LOGS_EXPORTER="none",
                OTEL_BSP_MAX_QUEUE_SIZE="8",
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8",
                OTEL_EXPORTER_OTLP_TIMEOUT="30",
            ),
        ) as server,
    ):
        latencies_ms(server)
        assert stop_s(server) < FLUSH_S + GUNICORN_STOPS_S
        assert lost(server) == {"spans": REQUESTS}, server.report()


def test_lost_metrics_are_said_when_collector_is_down(tmp_path: Path) -> None:
    """The numbers come with the next report; that this one was lost is said."""
    with (
        broken_collector(None) as endpoint,
        gunicorn(
            "every_kind",
            tmp_path,
            **settings(
                endpoint,
                tmp_path,
                OTEL_METRICS_EXPORTER="otlp",
                OTEL_TRACES_EXPORTER="none",
                OTEL_LOGS_EXPORTER="none",
                OTEL_METRIC_EXPORT_INTERVAL="200",
            ),
        ) as server,
    ):
        server.get("/ok/")
        eventually(lambda: lost(server)["reports of metrics"], server.report)
        assert len(complaints(server)) == 1


def test_nothing_is_said_when_collector_takes_all(tmp_path: Path) -> None:
    """No false alarm, and every span and event has arrived when the server has stopped."""
    with (
        otlp_sink() as sink,
        gunicorn("every_kind", tmp_path, **settings(sink.endpoint, tmp_path)) as server,
    ):
        latencies_ms(server)
        stop_s(server)
        assert complaints(server) == []
        assert (len(sink.spans), len(sink.logs)) == (REQUESTS, REQUESTS)


def test_complaints_of_sdk_are_shown_when_asked_for(tmp_path: Path) -> None:
    """Who debugs the exporter sees what it says, retry by retry."""
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text(
        "import logging\nlogging.getLogger('opentelemetry').setLevel(logging.DEBUG)\n"
    )
    with (
        broken_collector(None) as endpoint,
        gunicorn(
            "every_kind", tmp_path, "-c", str(configuration), **settings(endpoint, tmp_path)
        ) as server,
    ):
        server.get("/ok/")
        server.wait_for("Failed to export")
