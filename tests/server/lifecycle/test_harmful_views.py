"""Views that harm whatever looks at them: the app goes on as without us, and each request has its one line."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from tests.support.servers import Line, Server, gunicorn

#: Of a request. None below takes a second, or else half a minute.
TIMEOUT_S = 10
#: How many lines of ours the alarm moves on from request to request.
STEP = 3
#: Between the mark on the slot and the return of the system call it can't be known whether there is a line.
UNKNOWN = 12


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker whose main thread serves requests, so that signals find it there."""
    with gunicorn(
        *("harmful", tmp_path_factory.mktemp("harmed"), "--timeout", str(TIMEOUT_S)),
        expects_report=True,
        OTEL_CANONICAL_STRICT="0",
    ) as server:
        yield server


def worker_of(server: Server) -> str:
    """Ask for a page; return the process id of the worker that has served it."""
    answer, line = server.ask("/ok/")
    assert answer.status == 200
    return line["g_pid"]


@pytest.mark.parametrize("path", ["/large-message/", "/large-values/", "/large-containers/"])
def test_large_values_cost_what_small_ones_do(harmed: Server, path: str) -> None:
    """A message of 50 MB, values of 200 MB: they are cut, visibly, before they are searched or encoded."""
    before = worker_of(harmed)
    _, line = harmed.ask(path)
    assert line["event_type"] == "request"
    assert line["resp_status"] == ("500" if path == "/large-message/" else "200")
    assert any("...[+" in value for value in line.values())
    assert "hunter2" not in str(line)
    assert worker_of(harmed) == before


@pytest.mark.parametrize(
    ("path", "kind"), [("/hostile-name/", "HostileName"), ("/hostile-token/", "HostileToken")]
)
def test_rest_is_shown_when_an_exception_is_hostile(harmed: Server, path: str, kind: str) -> None:
    """What can be read of it is on the line."""
    answer, line = harmed.ask(path)
    assert answer.status == 500
    view = path.strip("/").replace("-", "_")
    assert (line["exc_type"], line["exc_msg"]) == (kind, "the message")
    assert line["exc_loc"].startswith("harmful.py:")
    assert line["exc_loc"].endswith(f":{view}")


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_callback_that_ends_the_process_loses_its_own_facts_only(harmed: Server, kind: str) -> None:
    """So does a value that it returns; the worker serves on."""
    before = worker_of(harmed)
    answer, line = harmed.ask(f"/callback-ends/?kind={kind}")
    assert answer.body == b"answered"
    assert (line["resp_status"], line["app_good"], line["app_hostile"]) == ("200", "1", "!err")
    assert worker_of(harmed) == before


def test_alarm_reaches_the_app_wherever_it_rings(harmed: Server) -> None:
    """A view's own time limit, raised in any line of ours, ends the view's work."""
    answer, _ = harmed.ask("/adds-under-an-alarm/")
    found = json.loads(answer.body)
    assert found["rung"] > 5
    assert found["told"] == found["rung"]


def test_request_has_its_whole_line_wherever_an_alarm_rings(harmed: Server) -> None:
    """While it is being closed, or the next one opened: the line is there, and it says all."""
    asked: dict[str, int | None] = {}
    is_armed, at = False, 1
    while not is_armed:
        request_id = f"alarm-{at}"
        try:
            answer = harmed.get(f"/closes-under-an-alarm/?at={at}", X_Request_ID=request_id)
        except (ConnectionError, http.client.HTTPException):
            asked[request_id] = None
        else:
            asked[request_id] = answer.status
            is_armed = answer.status == 200 and json.loads(answer.body)["is_armed"]
        at += STEP
    harmed.get("/closes-under-an-alarm/?at=0")  # sets none
    harmed.ask("/ok/")  # its line comes behind those
    found: dict[str, list[Line]] = {request_id: [] for request_id in asked}
    for line in harmed.lines():
        found.get(line["req_id"], []).append(line)
    assert len(asked) > 50
    assert [name for name, lines in found.items() if len(lines) > 1] == []
    whole = ("200", "closes-under-an-alarm/")
    assert [
        line
        for name, lines in found.items()
        for line in lines
        if asked[name] == 200 and (line.get("resp_status"), line.get("req_route")) != whole
    ] == []
    # Between accepting a connection and reading from it an alarm ends the worker, as it would without us.
    answered = [name for name, status in asked.items() if status is not None]
    assert len(asked) - len(answered) <= 4
    missing = [name for name in answered if not found[name]]
    assert len(missing) <= UNKNOWN // STEP + 2, missing
    # No alarm has cost the worker the slot that shows its requests to the arbiter.
    assert_killed_one_is_lost(harmed, "killed-after-alarms")


def test_request_is_missed_when_killed_while_its_line_is_made(harmed: Server) -> None:
    """Its slot says that no line is written yet, so that the arbiter writes one."""
    assert_killed_one_is_lost(harmed, "killed")


def assert_killed_one_is_lost(server: Server, request_id: str) -> None:
    """Kill the worker when it begins to encode a line: the client has its answer, the line is `lost`."""
    answer = server.get("/killed-while-encoding/", X_Request_ID=request_id)
    assert answer.body == b"answered"
    line = server.line_of(request_id)
    assert (line["event_type"], line["lost_cause"]) == ("lost", "SIGKILL")
    assert line["resp_status"] == "200"
