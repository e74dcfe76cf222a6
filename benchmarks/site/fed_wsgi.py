"""The site of `instructions.py`: its sync worker is fed requests from inside, and they are counted.

Requests come through pairs of sockets, so that nothing is counted but what serves them: no waiting, no
client. After a warm-up callgrind counts `FED_REQUESTS` of each path in `FED_PATHS`; what they leave to be
exported is flushed before the count ends. `FED_COUNTER` is the library that switches callgrind.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import time
from typing import Any

from gunicorn import util
from gunicorn.workers.sync import SyncWorker
from mysite.wsgi import application

__all__ = ["application"]

WARM = 40
#: A program under valgrind is some fifty times slower; see `SLOWER` in `instructions.py`.
SLOWER = 60
ADDRESS = ("127.0.0.1", 54321)


def feed(worker: Any) -> None:
    """Serve all requests, in place of the worker's own loop; then have the server stopped."""
    counter = ctypes.CDLL(os.environ["FED_COUNTER"])
    slow_clocks()
    requests = int(os.environ["FED_REQUESTS"])
    for path in os.environ["FED_PATHS"].split(","):
        for _ in range(WARM):
            serve(worker, path)
        flush()
        gc.collect()
        # A full collection looks at all that was imported: one more or less would be noise of 60 k.
        gc.freeze()
        counter.begin()
        for _ in range(requests):
            serve(worker, path)
        flush()
        counter.end()
    os.kill(worker.ppid, signal.SIGTERM)
    while worker.alive:
        time.sleep(0.05)


def slow_clocks() -> None:
    """Let what we do seldom, or in long requests only, stay as seldom as on a machine without valgrind."""
    modules = {
        name: sys.modules.get(f"otel_canonical.request.{name}")
        for name in ("time_facts", "canonical_log", "query_tally", "process_facts")
    }
    for owner, name in (
        (modules["time_facts"], "LONG_NS"),
        (modules["time_facts"], "SHOWN_OVERLAP_NS"),
        (modules["process_facts"], "SHOWN_COLLECTING_NS"),
        (modules["canonical_log"], "SELDOM_NS"),
        (getattr(modules["query_tally"], "thresholds", None), "slow_ns"),
    ):
        if owner is not None:
            setattr(owner, name, getattr(owner, name) * SLOWER)
    texts = sys.modules.get("otel_canonical.event.row_text")
    if texts is not None:
        # A duration of a second or more is written in another way, which costs ten times as much.
        more = range(1000, 1000 * SLOWER)
        texts.MILLISECONDS.update({number: f"{number / 1000:.3f}" for number in more})


def serve(worker: Any, path: str) -> None:
    """Serve one request; fail if it isn't answered well."""
    served, client = socket.socketpair()
    with client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n".encode())
        client.shutdown(socket.SHUT_WR)
        worker.notify()
        util.close_on_exec(served)
        worker.handle(worker.sockets[0], served, ADDRESS)
        if not client.recv(65536).startswith(b"HTTP/1.1 200"):
            sys.exit(f"{path} was not answered with 200")


def flush() -> None:
    """Export what waits, if anything is exported."""
    trace = sys.modules.get("opentelemetry.trace")
    logs = sys.modules.get("opentelemetry._logs")
    for provider in (
        trace and trace.get_tracer_provider(),
        logs and logs.get_logger_provider(),
    ):
        if hasattr(provider, "force_flush"):
            provider.force_flush()


SyncWorker.run = feed  # type: ignore[method-assign]
