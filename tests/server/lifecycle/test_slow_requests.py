"""A slow request gets a `slow` line with its stack while it runs, and is not disturbed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.raw_requests import send
from tests.support.servers import Line, Server, gunicorn


@pytest.fixture(scope="module")
def slow_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Requests over 0.2 s are slow, but for exports."""
    directory = tmp_path_factory.mktemp("slow")
    with gunicorn(
        "slow",
        directory,
        OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.2",
        OTEL_PYTHON_CANONICAL_SLOW_EXEMPT="exp*,other.view",
    ) as server:
        server.ask("/takes/?s=0")  # the first request imports, and may be slow
        yield server


def lines_after(site: Server, path: str, count: int) -> list[Line]:
    """Send a request and return the lines that it brings."""
    before = len(site.lines())
    assert b" 200 " in send(site, path)
    return site.wait_for_lines(before + count)[before:]


def test_slow_line_comes_first_and_request_line_says_so_too(slow_site: Server) -> None:
    """Two lines, joined by their ids: one at once, one at the end, with the real status."""
    slow, request = lines_after(slow_site, "/takes/?s=0.6", 2)
    assert (slow["event_type"], request["event_type"]) == ("slow", "request")
    assert slow["req_id"] == request["req_id"]
    assert "resp_status" not in slow
    assert request["resp_status"] == "200"
    for line in (slow, request):
        assert re.fullmatch(r"slow\.py:\d+:takes", line["slow_loc"])
        assert re.fullmatch(r"slow\.py:\d+:wait", line["slow_cause_loc"])
    assert re.match(r"slow\.py:\d+:wait < slow\.py:\d+:takes < django/", slow["slow_stack"])
    assert "slow_stack" not in request
    assert "hunter2" not in slow["slow_stack"]


def test_one_slow_line_however_long_it_takes(slow_site: Server) -> None:
    """Without an interval a request is reported once."""
    lines = lines_after(slow_site, "/takes/?s=1.3", 2)
    assert [line["event_type"] for line in lines] == ["slow", "request"]


@pytest.mark.parametrize("path", ["/takes/?s=0.05", "/export/?s=0.5"])
def test_no_slow_line_when_fast_or_exempt(slow_site: Server, path: str) -> None:
    """A fast request, and a slow one whose URL name is excused."""
    [line] = lines_after(slow_site, path, 1)
    assert line["event_type"] == "request"
    assert "slow_loc" not in line


def test_slow_line_when_body_is_streamed(slow_site: Server) -> None:
    """A slow body is slow like a slow view."""
    slow, _ = lines_after(slow_site, "/streams/", 2)
    assert re.fullmatch(r"slow\.py:\d+:body", slow["slow_loc"])


def test_stack_is_of_the_right_request_when_many_run(tmp_path: Path) -> None:
    """Eight slow requests at once in one worker: each line has its own request's stack."""
    with gunicorn(
        "slow", tmp_path, "--threads", "8", OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.3"
    ) as site:
        paths = [f"/{view}/?s=1.{n}" for n in range(4) for view in ("takes", "export")]
        with ThreadPoolExecutor(len(paths)) as clients:
            list(clients.map(lambda path: send(site, path), paths))
        lines = site.wait_for_lines(2 * len(paths))
        assert len({line["req_id"] for line in lines}) == len(paths)
        for line in lines:
            view = line["req_path"].strip("/")
            assert re.fullmatch(rf"slow\.py:\d+:{view}", line["slow_loc"])


def test_slow_lines_repeat_when_interval_is_set(tmp_path: Path) -> None:
    """Every interval one more, while it runs."""
    with gunicorn(
        "slow",
        tmp_path,
        OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.2",
        OTEL_PYTHON_CANONICAL_SLOW_INTERVAL_SECONDS="0.3",
    ) as site:
        send(site, "/takes/?s=1.3")
        lines = [line for line in site.lines() if line["event_type"] == "slow"]
        assert 3 <= len(lines) <= 4


def test_locals_are_shown_and_redacted_when_asked_for(tmp_path: Path) -> None:
    """Opt-in, the app's frames only, secrets never."""
    with gunicorn(
        "slow",
        tmp_path,
        OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.2",
        OTEL_PYTHON_CANONICAL_SLOW_LOCALS="true",
    ) as site:
        slow, _ = lines_after(site, "/takes/?s=0.6", 2)
        assert "three apples" in slow["slow_stack"]
        assert "password=[redacted]" in slow["slow_stack"]
        assert "hunter2" not in site.stdout.read_text()
