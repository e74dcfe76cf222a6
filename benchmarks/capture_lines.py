"""Captures `lines/sample.log` anew: `capture_lines.py > benchmarks/lines/sample.log`.

The demo's tour gives the line of every kind of request. Then one request is slow until it times out,
another one's worker is killed with all others, and a `pool` line counts all of it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "demo")]

from tour.visitor import Visitor, visit_everything  # noqa: E402  # found by the line above

from tests.support.demo_shop import shop  # noqa: E402  # so is this
from tests.support.servers import Line, Server, eventually  # noqa: E402

SETTINGS = {
    "OTEL_PYTHON_CANONICAL_SLOW_SECONDS": "2",
    "OTEL_PYTHON_CANONICAL_POOL_INTERVAL_SECONDS": "5",
}


def main() -> None:
    """Run the demo and print its lines."""
    with (
        tempfile.TemporaryDirectory() as directory,
        shop(Path(directory), "--timeout", "6", workers=4, **SETTINGS) as server,
    ):
        tour(server)  # so that workers have started, and have imported what they need
        tour(server)
        toured = tour(server)
        ask_slowly(server)
        wait_for_one_more(server, "timeout", 0)
        slow = len(of_type(server, "slow"))
        ask_slowly(server)
        wait_for_one_more(server, "slow", slow)
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        wait_for_one_more(server, "lost", 0)
        wait_for_one_more(server, "pool", len(of_type(server, "pool")))
        lines = server.stdout.read_text().splitlines()
    seldom = [
        [line for line in lines if is_of(line, kind)][-1]
        for kind in ("timeout", "lost", "slow", "pool")
    ]
    print("\n".join([*toured, *seldom]))


def tour(server: Server) -> list[str]:
    """Visit everything and return the lines of that."""
    before = len(server.stdout.read_text().splitlines())
    requests = len(of_type(server, "request"))
    visitor = Visitor(*server.address)
    visit_everything(visitor)
    for path in ("/account/", "/api/products/"):
        # As a proxy in front does.
        sent = f"t={time.time():.6f}"
        visitor.ask(f"GET {path}", 0, "with the time it was received", X_Request_Start=sent)
    requests += len(visitor.sent)
    eventually(lambda: len(of_type(server, "request")) >= requests, server.report)
    lines = server.stdout.read_text().splitlines()[before:]
    return [line for line in lines if not is_of(line, "pool")]


def is_of(line: str, event_type: str) -> bool:
    """Return whether a line is of a type."""
    return f" event_type={event_type} " in line


def of_type(server: Server, event_type: str) -> list[Line]:
    """Return the lines of one type so far."""
    return [line for line in server.lines() if line["event_type"] == event_type]


def wait_for_one_more(server: Server, event_type: str, count: int) -> None:
    """Wait for a line of a type, beyond as many as there were."""
    eventually(lambda: len(of_type(server, event_type)) > count, server.report)


def ask_slowly(server: Server) -> None:
    """Send a request that gets no answer in time, from a thread of its own."""

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.get("/slow/?seconds=60", User_Agent="curl/7.88.1")

    threading.Thread(target=ask, daemon=True).start()


if __name__ == "__main__":
    main()
