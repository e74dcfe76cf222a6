"""A failing collector delays neither requests nor stops: five servers side by side, one with a healthy one.

A short version runs with the other tests; `OTEL_CANONICAL_SOAK=1` (`make soak`) the long one. How long
requests took is printed, not judged: the machine's other work is in it.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import re
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.peers.collector import collector
from tests.support.servers import Server, eventually, gunicorn
from tests.support.soak import IS_SOAK

pytestmark = pytest.mark.soak

#: (short, long)
REQUESTS = (200, 4000)[IS_SOAK]

KINDS = ("healthy", "down", "hanging", "503", "garbage")

#: Small, so that it is full after a few requests: what follows must be dropped, not kept.
QUEUE = "128"
#: What a worker's memory may grow by once its queues are full: the allocator's slack, in KiB.
MEMORY_SLACK_KIB = 6 * 1024
#: `OTEL_PYTHON_CANONICAL_FLUSH_SECONDS`, and what else a stop takes: Gunicorn's own look, the machine.
FLUSH_S, STOP_SLACK_S = 2.0, 6.0

#: The group is who complains.
COMPLAINT = re.compile(
    r"^(?:.*\[(\d+)\] \[WARNING\] )?otel-canonical: .* could not be sent", re.MULTILINE
)
COMPLAINT_INTERVAL_S = 60.0


class Unwell(BaseHTTPRequestHandler):
    """Answer 503, as a collector behind a proxy does."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Garbled(Unwell):
    """Answer what is no OTLP, and to traces no HTTP: those are lost, however often they are sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/traces"):
            self.wfile.write(b"\x00\xff\x16garbage\r\n\r\n")
            self.close_connection = True
            return
        body = b"<html>\xff\xfe welcome to the hotel</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def collector_that_is(kind: str, directory: Path) -> Iterator[str]:
    """Yield the address of a collector in that state."""
    if kind == "healthy":
        with collector(directory) as peer:
            yield peer.endpoint
    elif kind in ("503", "garbage"):
        handler = Unwell if kind == "503" else Garbled
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name=kind)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()
        thread.join()
    else:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            if kind == "hanging":
                listener.listen(128)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[dict[str, Server]]:
    """One worker for each kind of collector, exporting all signals, every trace."""
    with contextlib.ExitStack() as stack:
        started = {}
        for kind in KINDS:
            directory = tmp_path / kind
            directory.mkdir()
            started[kind] = stack.enter_context(
                gunicorn(
                    "every_kind",
                    directory,
                    SITE_DIRECTORY=str(directory),
                    OTEL_EXPORTER_OTLP_ENDPOINT=stack.enter_context(
                        collector_that_is(kind, directory)
                    ),
                    OTEL_BSP_SCHEDULE_DELAY="100",
                    OTEL_BLRP_SCHEDULE_DELAY="100",
                    OTEL_BSP_MAX_QUEUE_SIZE=QUEUE,
                    OTEL_BSP_MAX_EXPORT_BATCH_SIZE=QUEUE,
                    OTEL_BLRP_MAX_QUEUE_SIZE=QUEUE,
                    OTEL_BLRP_MAX_EXPORT_BATCH_SIZE=QUEUE,
                    OTEL_METRIC_EXPORT_INTERVAL="500",
                    # What the exporters say about it is not ours.
                    OTEL_CANONICAL_STRICT="0",
                )
            )
        yield started


def resident_kib(server: Server) -> int:
    """Return the memory of a server's one worker that is its own."""
    [worker] = server.workers()
    status = Path(f"/proc/{worker}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


def test_requests_and_stop_are_as_ever_when_collector_is_ill(sites: dict[str, Server]) -> None:
    """Every request answered and told, memory bounded, a stop in time; how long they took is shown."""
    took_ms: dict[str, list[float]] = {kind: [] for kind in KINDS}
    filled: dict[str, int] = {}
    started = time.monotonic()
    for kind in KINDS:
        assert sites[kind].get("/ok/").status == 200  # answered when its worker has loaded the app
    for number in range(REQUESTS):
        for kind in random.sample(KINDS, len(KINDS)):  # in turn, so that all have the same weather
            began = time.perf_counter()
            assert sites[kind].get("/queries/").status == 200
            took_ms[kind].append(1000 * (time.perf_counter() - began))
        if number == REQUESTS // 2:
            filled = {kind: resident_kib(sites[kind]) for kind in KINDS}
    grown = {kind: resident_kib(sites[kind]) - filled[kind] for kind in KINDS}
    stopped_s = {kind: stop_in_s(sites[kind]) for kind in KINDS}
    for kind in KINDS:
        print(
            f"{kind:8} {spread(took_ms[kind])} grown {grown[kind]:5} KiB stop {stopped_s[kind]:.2f} s"
        )
    for kind in KINDS:
        lines = sites[kind].lines()
        assert len(lines) == REQUESTS + 1
        assert {(line["resp_status"], line["sampled"]) for line in lines} == {("200", "true")}
    assert max(grown.values()) < MEMORY_SLACK_KIB
    assert max(stopped_s.values()) < FLUSH_S + STOP_SLACK_S
    # One process has one at the first loss, one at the end; the next but a minute later.
    later = (time.monotonic() - started) // COMPLAINT_INTERVAL_S
    for kind in KINDS:
        said = collections.Counter(COMPLAINT.findall(sites[kind].stderr.read_text()))
        if kind == "healthy":
            assert not said
        else:
            # The worker, by its process id, and the reporter, whose log has none.
            assert len(said) <= 2
            assert max(said.values()) <= 2 + later


def spread(values: list[float]) -> str:
    """Return the distribution of durations, in milliseconds."""
    centiles = statistics.quantiles(values, n=100)
    return (
        f"ms: p50 {centiles[49]:6.2f}  p90 {centiles[89]:6.2f}  p99 {centiles[98]:6.2f}  "
        f"max {max(values):6.2f}"
    )


def stop_in_s(server: Server) -> float:
    """Return how long a server takes to end when it is asked to."""
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    eventually(lambda: server.process.poll() is not None, server.report)
    assert "SIGKILL" not in server.stderr.read_text()
    return time.monotonic() - began
