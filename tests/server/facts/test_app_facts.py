"""What the app says of its request is on that request's line."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

from tests.support.servers import Line, Server, eventually


def test_app_facts_are_on_line(site: Server) -> None:
    """What was set, added and timed, and a secret that was set, redacted."""
    _, line = site.ask("/facts/?t=token-1")
    facts = {key: value for key, value in line.items() if key.startswith("app_")}
    assert float(facts.pop("app_once_time")) >= 0.01
    assert float(facts.pop("app_thrice_time")) >= 0
    assert facts == {
        "app_seen": "token-1",
        "app_plan": "pro",
        "app_api_key": "[redacted]",
        "app_items": "7",
        "app_thrice_count": "3",
    }


def test_short_runs_sum_to_truth(site: Server) -> None:
    """100 runs of 0.3 ms are at least 30 ms, and no more than what the app itself measured."""
    answer, line = site.ask("/short-timers/")
    assert 0.03 <= float(line["app_short_time"]) <= json.loads(answer.body)["elapsed"]
    assert line["app_short_count"] == "100"


def test_odd_facts_leave_line_whole(site: Server) -> None:
    """Any value has its text, any key is repaired, and none of ours can be forged."""
    answer, line = site.ask("/odd-facts/")
    assert answer.status == 200
    assert line["event_type"] == "request"
    assert {key: value for key, value in line.items() if key.startswith("app_")} == {
        "app_date": "2024-02-29",
        "app_decimal": "1.50",
        "app_enum": "pro",
        "app_fails": "!err",
        "app_huge": "1180591620717411303424",
        "app_infinite": "inf",
        "app_list": "[1, 'two']",
        "app_no_number": "nan",
        "app_surrogate": "a\ud800b",
        "app_true": "true",
        "app_a_key__b__": "repaired",
        "app_": "no key",
        "app_event_type": "forged",
        "app_7": "a number for a key",
    }


def test_partial_failure_has_own_line_at_once(site: Server, tmp_path: Path) -> None:
    """Its line is there while the request still runs, joined to the request's by ids."""
    until = tmp_path / "seen"
    request = threading.Thread(
        target=site.get,
        args=(f"/partial-then-waits/?until={until}",),
        kwargs={"X_Request_ID": "part"},
    )
    request.start()
    try:
        [failure] = eventually(
            lambda: [line for line in site.lines() if line["req_id"] == "part"], site.report
        )
    finally:
        until.touch()
        request.join()
    eventually(lambda: len(_lines_of(site, "part")) == 2, site.report)
    [_, line] = _lines_of(site, "part")
    assert (failure["event_type"], line["event_type"]) == ("partial_failure", "request")
    assert (failure["exc_type"], failure["exc_msg"]) == ("Error", "Oh noes!")
    assert re.fullmatch(r"every_kind_facts\.py:\d+:will_throw", failure["exc_loc"])
    assert re.fullmatch(r"every_kind\.py:\d+:raise_deep", failure["exc_cause_loc"])
    assert line["resp_status"] == "200"
    assert "exc_type" not in line


def _lines_of(server: Server, request_id: str) -> list[Line]:
    return [line for line in server.lines() if line["req_id"] == request_id]


def test_default_is_not_shared_when_partial_failures_repeat(site: Server) -> None:
    """What a caller does to one answer isn't in the next, and each failure has its line."""
    answer = site.get("/partial/", X_Request_ID="twice")
    assert json.loads(answer.body) == {"second": []}
    eventually(lambda: len(_lines_of(site, "twice")) == 3, site.report)
    assert [line["event_type"] for line in _lines_of(site, "twice")] == [
        "partial_failure",
        "partial_failure",
        "request",
    ]


def test_partial_failure_survives_async_functions(site: Server) -> None:
    """A coroutine function is awaited, then survived."""
    answer = site.get("/async-partial/", X_Request_ID="async-part")
    assert (answer.status, answer.body) == (200, b"degraded")
    eventually(lambda: len(_lines_of(site, "async-part")) == 2, site.report)
    assert _lines_of(site, "async-part")[0]["exc_msg"] == "Oh noes!"


@pytest.mark.parametrize("path", ["/partial/", "/async-partial/"])
def test_partial_failure_is_raised_under_debug(debug_site: Server, path: str) -> None:
    """While developing, a failure is seen: one line, of a request that failed."""
    answer, line = debug_site.ask(path)
    assert (answer.status, line["resp_status"]) == (500, "500")
    assert (line["event_type"], line["exc_type"]) == ("request", "Error")
