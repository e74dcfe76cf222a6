"""A request that times out has one `timeout` line, which names the line of code it was in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.raw_requests import request_id, send
from tests.support.servers import Server, gunicorn

#: Enough that all the stuck views below time out side by side.
STUCK = {
    "/sleeps/": ("sleeps", "wait_inside"),
    "/reads-socket/": ("reads_socket", "reads_socket"),
    "/waits-for-lock/": ("waits_for_lock", "waits_for_lock"),
    "/spins/": ("spins", "spins"),
    "/ignores-abort/": ("ignores_abort", "wait_inside"),
    "/swallows-exit/": ("swallows_exit", "wait_inside"),
    # CPython 3.15 calls it `prefixmatch`.
    "/regex-holds-gil/": ("regex_holds_gil", re.match.__name__),
    "/c-call-releases-gil/": ("c_call_releases_gil", "c_call_releases_gil"),
    "/c-call-holds-gil/": ("c_call_holds_gil", "c_call_holds_gil"),
}


@pytest.fixture(scope="module")
def stuck_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A worker for each stuck view, all of them stuck at once, and what Gunicorn made of it."""
    directory: Path = tmp_path_factory.mktemp("stuck")
    with gunicorn("stuck", directory, "-t", "2", workers=len(STUCK)) as server:
        with ThreadPoolExecutor(len(STUCK)) as clients:
            list(clients.map(lambda path: send(server, path), STUCK))
        yield server


@pytest.mark.parametrize("path", STUCK)
def test_one_timeout_line_says_where_when_request_is_stuck(stuck_site: Server, path: str) -> None:
    """Whatever holds it, with or without the GIL, with or without SIGABRT obeyed."""
    view, cause = STUCK[path]
    line = stuck_site.line_of(request_id(path))
    assert line["event_type"] == "timeout"
    assert re.fullmatch(rf"stuck\.py:\d+:{view}", line["timeout_loc"])
    assert re.fullmatch(rf"\S+:\d+:{cause}", line["timeout_cause_loc"])
    assert line["req_path"] == path
    assert line["req_route"] == path[1:]
    assert line["resp_view"] == f"stuck.{view}"
    assert float(line["resp_time"]) >= 1.5
    assert "exc_type" not in line


def test_every_timeout_is_one_line(stuck_site: Server) -> None:
    """As many lines as requests."""
    stuck_site.wait_for_lines(len(STUCK))


@pytest.fixture(scope="module")
def patient_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker with a long timeout and as long a margin, so that most of it is past the deadline."""
    directory = tmp_path_factory.mktemp("patient")
    margin = {"OTEL_PYTHON_CANONICAL_TIMEOUT_MARGIN_SECONDS": "29.7"}
    with gunicorn("stuck", directory, "-t", "30", **margin) as server:
        yield server


def test_line_is_request_when_it_ends_after_deadline(patient_site: Server) -> None:
    """Past the deadline but before the kill: an ordinary line that says so, and where it was."""
    path = "/takes/?s=0.5"
    assert b" 200 " in send(patient_site, path)
    line = patient_site.line_of(request_id(path))
    assert (line["event_type"], line["resp_status"]) == ("request", "200")
    assert line["deadline_exceeded"] == "true"
    assert re.fullmatch(r"stuck\.py:\d+:takes", line["timeout_loc"])


def test_line_is_ordinary_when_it_ends_before_deadline(patient_site: Server) -> None:
    """Before the deadline nothing is noticed."""
    send(patient_site, "/ok/")
    line = patient_site.line_of("ok")
    assert "deadline_exceeded" not in line
    assert "timeout_loc" not in line


def test_never_a_timeout_when_gunicorn_has_none(tmp_path: Path) -> None:
    """`--timeout 0` means that nothing is ever due."""
    with gunicorn("stuck", tmp_path, "-t", "0") as site:
        assert b" 200 " in send(site, "/takes/?s=1")
        [line] = site.wait_for_lines(1)
        assert (line["event_type"], line["resp_status"]) == ("request", "200")
        assert "deadline_exceeded" not in line


def test_line_is_request_when_app_answers_the_abort(tmp_path: Path) -> None:
    """A view that catches the SystemExit of the abort and answers: what the client got counts."""
    with gunicorn("stuck", tmp_path, "-t", "1") as site:
        assert b" 503 " in send(site, "/survives-abort/")
        [line] = site.wait_for_lines(1)
        assert (line["event_type"], line["resp_status"]) == ("request", "503")
        assert line["deadline_exceeded"] == "true"


def test_timeout_line_has_facts_of_the_request(tmp_path: Path) -> None:
    """Queries so far, and the status if Gunicorn could still send one."""
    with gunicorn("stuck", tmp_path, "-t", "1") as site:
        assert b" 500 " in send(site, "/queries-then-sleeps/")
        [line] = site.wait_for_lines(1)
        assert (line["event_type"], line["db_queries"]) == ("timeout", "3")
        assert line["resp_status"] == "500"


def test_timeout_line_when_body_is_being_streamed(tmp_path: Path) -> None:
    """Stuck in the middle of a body."""
    with gunicorn("stuck", tmp_path, "-t", "1") as site:
        send(site, "/streams-then-sleeps/")
        [line] = site.wait_for_lines(1)
        assert (line["event_type"], line["resp_status"]) == ("timeout", "200")
        assert re.fullmatch(r"stuck\.py:\d+:body", line["timeout_loc"])
        assert re.fullmatch(r"stuck\.py:\d+:wait_inside", line["timeout_cause_loc"])
