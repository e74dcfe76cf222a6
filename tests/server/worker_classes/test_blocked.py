"""Worker classes whose requests share a thread: one request that blocks it, and others that only wait.

Gunicorn times out a worker whose loop or hub is held, never a request that waits; neither do we.
"""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import pytest

from tests.support.raw_requests import begin
from tests.support.servers import Line, Server, eventually
from tests.support.soak import some_of
from tests.support.worker_classes import ASGI, GEVENT, site_of

#: For each view that waits under ASGI: its place in the app, and the innermost one if that differs.
WAITING = {
    "/async_waits/?t=a": ("async_waits", "sleep"),
    "/async_in_thread/?s=60": ("async_in_thread", "wait_here"),
    "/async_gathers/?s=60": ("async_gathers", "async_wait_here"),
    "/async_waits_in_task/?s=60": ("async_waits_in_task", "async_wait_here"),
    "/crosses_and_waits/?s=60": ("crosses_and_waits", "async_wait_here"),
    "/sleeps/?s=60": ("sleeps", "wait_here"),
}


def id_of(path: str) -> str:
    """Return the request id that a path is asked under."""
    return path.strip("/").partition("/")[0]


def wait_until_open(site: Server, count: int) -> None:
    """Wait until so many requests are in their views, as their slow lines tell."""

    def probe() -> bool:
        return sum(line["event_type"] == "slow" for line in site.lines()) >= count

    eventually(probe, site.report)


def ending(site: Server, request_id: str) -> Line:
    """Return the line with which a request has ended."""

    def probe() -> list[Line]:
        ends = [line for line in site.lines() if line["event_type"] != "slow"]
        return [line for line in ends if line["req_id"] == request_id]

    [line] = eventually(probe, lambda: f"{request_id} has not ended\n{site.report()}")
    return line


def assert_located(line: Line, kind: str, view: str, cause: str) -> None:
    """Check where a line says that its request was."""
    assert re.fullmatch(rf"any_class\.py:\d+:{view}", line[f"{kind}_loc"]), line
    assert re.fullmatch(rf"\S+:\d+:{cause}", line[f"{kind}_cause_loc"]), line


@pytest.mark.parametrize("name", ASGI)
def test_timeout_line_for_each_request_when_loop_is_blocked(name: str, tmp_path: Path) -> None:
    """All in flight die with the worker: each line says where its own request was."""
    with (
        site_of(name, tmp_path, "-t", "2", OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.3") as site,
        contextlib.ExitStack() as connections,
    ):
        for path in WAITING:
            connections.enter_context(contextlib.closing(begin(site, path, id_of(path))))
        wait_until_open(site, len(WAITING))
        slow = {line["req_id"]: line for line in site.lines() if line["event_type"] == "slow"}
        blocking = begin(site, "/async_blocks/?s=60", "blocks")
        connections.enter_context(contextlib.closing(blocking))
        for path, (view, cause) in WAITING.items():
            assert_located(slow[id_of(path)], "slow", view, cause)
            line = ending(site, id_of(path))
            assert line["event_type"] == "timeout"
            assert_located(line, "timeout", view, cause)
        line = ending(site, "blocks")
        assert (line["event_type"], line["req_route"]) == ("timeout", "async_blocks/")
        assert_located(line, "timeout", "async_blocks", "wait_here")
        # The next worker serves.
        assert site.ask("/async_plain/?t=after")[1]["resp_status"] == "200"


@pytest.mark.soak
@pytest.mark.parametrize("name", some_of([*ASGI, *GEVENT, "gthread"], "asgi", "gevent", "gthread"))
def test_line_is_request_when_it_only_waits(name: str, tmp_path: Path) -> None:
    """Six seconds at `-t 2`: answered, never killed, and late, says its line."""
    view = "async_plain" if name in ASGI else "plain"
    with site_of(name, tmp_path, "-t", "2") as site:
        workers = site.workers()
        answer, line = site.ask(f"/{view}/?t=mark&s=6")
        assert (answer.status, line["event_type"], line["resp_status"]) == (200, "request", "200")
        assert line["deadline_exceeded"] == "true"
        assert re.fullmatch(rf"any_class\.py:\d+:{view}", line["timeout_loc"])
        assert site.workers() == workers


@pytest.mark.parametrize("name", GEVENT)
def test_timeout_line_says_where_when_greenlet_computes(name: str, tmp_path: Path) -> None:
    """The request that holds the hub times out; requests that only wait may still be answered."""
    with (
        site_of(name, tmp_path, "-t", "2", OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.2") as site,
        contextlib.ExitStack() as connections,
    ):
        waiting = [f"waits-{n}" for n in range(3)]
        for request_id in waiting:
            connection = begin(site, "/sleeps/?s=5", request_id)
            connections.enter_context(contextlib.closing(connection))
        wait_until_open(site, len(waiting))
        spinning: socket.socket = begin(site, "/spins/?s=60", "spins")
        connections.enter_context(contextlib.closing(spinning))
        line = ending(site, "spins")
        assert line["event_type"] == "timeout"
        assert_located(line, "timeout", "spins", "spins")
        for request_id in waiting:
            line = ending(site, request_id)
            assert line["event_type"] in ("request", "timeout")
            assert (line["event_type"] == "request") == (line.get("resp_status") == "200")
            assert_located(line, "timeout", "sleeps", "wait_here")
        slow = [line for line in site.lines() if line["event_type"] == "slow"]
        for line in slow:
            if line["req_id"] in waiting:
                assert_located(line, "slow", "sleeps", "wait_here")
        # Where gevent's own server serves, the end of one greenlet is the end of the worker.
        assert site.ask("/plain/?t=after")[1]["resp_status"] == "200"
