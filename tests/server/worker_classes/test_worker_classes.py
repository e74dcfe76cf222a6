"""Every worker class: one right line for each request, without facts of another request.

`make soak` runs the long version: 10,000 requests at 50 at once for each class.
"""

from __future__ import annotations

import collections
import os
import random
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import resident_kib
from tests.support.raw_requests import begin, leave_stream
from tests.support.servers import Line, Server, eventually
from tests.support.soak import IS_SOAK
from tests.support.worker_classes import ASGI, CLASSES, GEVENT, site_of, views

pytestmark = pytest.mark.soak

#: (short, long)
REQUESTS = (160, 10_000)[IS_SOAK]
#: What memory may grow by in the second half, in KiB: the allocator's slack, of 50 requests at once.
MEMORY_SLACK_KIB = 8192


@pytest.fixture(scope="module", params=CLASSES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One worker of each class, nothing set but defaults."""
    with site_of(request.param, tmp_path_factory.mktemp("class")) as server:
        yield server


def test_line_is_right_when_view_answers(site: Server) -> None:
    """Plain."""
    for view in views(site, "plain"):
        answer, line = site.ask(f"/{view}/?t=mark-{view}&n=3")
        assert answer.body == f"mark-{view}".encode()
        assert line["resp_status"] == "200"
        assert line["resp_bytes"] == str(len(answer.body))
        assert (line["app_mark"], line["db_queries"]) == (f"mark-{view}", "3")
        assert line["req_route"] == f"{view}/"
        assert line["req_client"] == "127.0.0.1"
        assert float(line["resp_ttfb"]) <= float(line["resp_time"])
        # The CPU time of a thread that many requests share belongs to none of them.
        assert ("resp_cpu_time" in line) == (site.name == "gthread")


def test_line_is_right_when_body_is_streamed(site: Server) -> None:
    """Its queries and its time are those of the whole body."""
    for view in views(site, "stream"):
        answer, line = site.ask(f"/{view}/?t=abcd&n=2&s=0.2")
        assert answer.body == b"abcd"
        assert (line["resp_bytes"], line["db_queries"], line["app_mark"]) == ("4", "2", "abcd")
        assert float(line["resp_time"]) >= 0.2
        if view.startswith("async_") or site.name not in ASGI:
            # Django reads a sync stream to its end before it sends it from an async handler.
            assert float(line["resp_ttfb"]) < float(line["resp_time"]) - 0.1


def test_line_is_right_when_view_raises(site: Server) -> None:
    """The exception, its place, and what the client got."""
    for view in views(site, "raises"):
        answer, line = site.ask(f"/{view}/?t=mark&n=1")
        assert str(answer.status) == line["resp_status"] == "500"
        assert (line["exc_type"], line["exc_msg"]) == ("LookupError", "mark")
        assert re.fullmatch(rf"any_class\.py:\d+:{view}", line["exc_loc"])
        assert line["db_queries"] == "1"


def test_line_is_right_when_client_leaves(site: Server) -> None:
    """In the middle of a long stream: the status that was sent, and no error."""
    for view in views(site, "long_stream"):
        request_id = f"{site.name}-{view}"
        leave_stream(site, f"/{view}/?t=gone", request_id)
        line = site.line_of(request_id)
        assert (line["client_gone"], line["resp_status"]) == ("true", "200")
        assert line["app_mark"] == "gone"
        assert not [key for key in line if key.startswith("exc_")]


def test_one_line_when_request_is_malformed(site: Server) -> None:
    """Refused by the parser, Gunicorn's or Uvicorn's."""
    before = len(site.lines())
    answer = site.send(b"NONSENSE\r\n\r\n")
    site.ask("/plain/?t=after")
    line, _ = site.wait_for_lines(before + 2)[before:]
    assert line["resp_status"] == answer.split()[1].decode() == "400"
    assert line["exc_type"]


def test_no_fact_crosses_over_when_sixty_run_at_once(site: Server) -> None:
    """Each answer's mark is on its own line and on no other, with exactly its queries."""
    kinds = views(site, "plain", "stream", "raises")
    if site.name not in GEVENT:
        kinds.append("crosses")
    before = len(site.lines())
    marks = [f"m{n}-{random.getrandbits(32):08x}" for n in range(60)]

    def ask(n: int) -> bytes:
        path = f"/{kinds[n % len(kinds)]}/?t={marks[n]}&n={n % 7}&s=0.{n % 4}"
        return site.get(path, X_Request_ID=marks[n]).body

    with ThreadPoolExecutor(60) as clients:
        bodies = list(clients.map(ask, range(60)))
    lines = {line["req_id"]: line for line in site.wait_for_lines(before + 60)[before:]}
    assert set(lines) == set(marks)
    for n, mark in enumerate(marks):
        line, kind = lines[mark], kinds[n % len(kinds)]
        if not kind.endswith("raises"):
            assert bodies[n].decode() == mark
        assert line["app_mark"] == mark
        assert line["req_path"] == f"/{kind}/"
        assert int(line.get("db_queries", "0")) == n % 7
        assert line.get("exc_msg") == (mark if kind.endswith("raises") else None)
        others = [other for other in marks if other != mark]
        assert not [other for other in others if other in str(line)]


def test_nothing_left_behind_writes_into_a_request(site: Server, tmp_path: Path) -> None:
    """Threads, tasks and greenlets that outlive their request, and do not keep it open."""
    left = ["leaves_thread"]
    left += ["leaves_task"] if site.name in ASGI else []
    left += ["leaves_greenlet"] if site.name in GEVENT else []
    for view in left:
        gate = tmp_path / view
        _, first = site.ask(f"/{view}/?t=left&gate={gate}")
        gate.touch()
        _, second = site.ask("/plain/?t=second&s=0.5")
        for line in (first, second):
            assert "app_late" not in line
            assert int(line.get("db_queries", "0")) == 0
        assert second["g_t_active"] == "1"


@pytest.mark.parametrize("name", CLASSES)
def test_lines_are_requests_when_half_of_them_go_wrong(name: str, tmp_path: Path) -> None:
    """Fifty at once, half of them raising, streaming or left: as many lines, nothing open, memory flat."""
    with site_of(name, tmp_path) as site:
        good = views(site, "plain")
        bad = views(site, "raises", "stream", "long_stream")

        def ask(number: int) -> tuple[str, str]:
            view = random.choice(bad if number % 2 else good)
            request_id = f"r{number}"
            path = f"/{view}/?t={request_id}&n={number % 3}"
            if view.endswith("long_stream"):
                leave_stream(site, path, request_id)
            else:
                site.get(path, X_Request_ID=request_id)
            return request_id, view

        asked: dict[str, str] = {}
        resident: list[int] = []
        with ThreadPoolExecutor(50) as clients:
            for part in range(4):
                numbers = range(part * REQUESTS // 4, (part + 1) * REQUESTS // 4)
                asked.update(clients.map(ask, numbers))
                eventually(lambda: len(site.lines()) >= len(asked), site.report)
                resident.append(resident_kib(site.workers()[0]))
        lines = site.wait_for_lines(REQUESTS)
        check_accounts(asked, lines)
        # Nothing is open but the request that says so.
        eventually(lambda: site.ask("/plain/?t=last")[1]["g_t_active"] == "1", site.report)
        print(f"{name}: {REQUESTS} requests, {len(lines)} lines, resident KiB {resident}")
        assert resident[3] - resident[1] < MEMORY_SLACK_KIB


def check_accounts(asked: dict[str, str], lines: list[Line]) -> None:
    """Check that each request has its one line, and the line its request's facts."""
    count = collections.Counter(line["req_id"] for line in lines)
    assert set(count) == set(asked)
    assert set(count.values()) == {1}
    for line in lines:
        view = asked[line["req_id"]]
        assert line["app_mark"] == line["req_id"]
        assert line["event_type"] == "request"
        if view.endswith("long_stream"):
            assert line["client_gone"] == "true"
        else:
            assert line["resp_status"] == ("500" if view.endswith("raises") else "200")
            assert int(line.get("db_queries", "0")) == int(line["req_id"][1:]) % 3


@pytest.mark.parametrize("name", CLASSES)
def test_lost_line_for_each_request_when_worker_is_killed(name: str, tmp_path: Path) -> None:
    """kill -9 with five requests open: five lines."""
    with site_of(name, tmp_path) as site:
        connections = [begin(site, "/sleeps/?s=30", f"lost-{n}") for n in range(5)]
        eventually(lambda: int(site.ask("/plain/?t=p")[1]["g_t_active"]) >= 6, site.report)
        os.kill(site.workers()[0], signal.SIGKILL)
        for n in range(5):
            line = site.line_of(f"lost-{n}")
            assert (line["event_type"], line["lost_cause"]) == ("lost", "SIGKILL")
            assert line["req_route"] == "sleeps/"
        for connection in connections:
            connection.close()
