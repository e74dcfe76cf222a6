"""The example lines of gunicorn-django-canonical-logs' README, compared with ours.

Each example's keys are listed as its README prints them, the value as a pattern. `-` is how it prints
"unknown"; we leave such a key out. The example of a timeout is in `server/lifecycle/test_timeouts.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.servers import Line, Server, eventually, gunicorn

pytest.importorskip("whitenoise", reason="pip install whitenoise")

UNKNOWN = "-"
SECONDS = r"\d+\.\d+"
#: On every example. The ancestor's `g_w_active` doesn't count the request itself; ours does.
POOL = {"g_w_count": "1", "g_w_active": "1", "g_backlog": r"\d+"}
CURL = {"User_Agent": "curl/7.88.1"}
FROM = {"Referer": "http://localhost:8080/"}  # as curl and browsers spell it

EXAMPLES = {
    "200 response from Django with DB queries": (
        "/db_queries/",
        {**CURL, **FROM},
        {
            "event_type": "request",
            "req_method": "GET",
            "req_path": "/db_queries/",
            "req_referrer": re.escape("http://localhost:8080/"),
            "req_user_agent": re.escape("curl/7.88.1"),
            "resp_view": r"ancestor_site\.db_queries",
            "resp_time": SECONDS,
            "resp_cpu_time": SECONDS,
            "resp_status": "200",
            "db_queries": "3",
            "db_time": SECONDS,
            "db_dup_queries": "2",
            "db_dup_time": SECONDS,
            "db_connects": "1",
            "db_connect_time": SECONDS,
            "db_fetch_time": SECONDS,
            "db_rows": r"\d+",
        },
    ),
    "404 response from Django": (
        "/does-no-exist/",
        CURL,
        {
            "event_type": "request",
            "req_method": "GET",
            "req_path": "/does-no-exist/",
            "req_referrer": UNKNOWN,
            "req_user_agent": re.escape("curl/7.88.1"),
            "resp_view": UNKNOWN,
            "resp_time": SECONDS,
            "resp_cpu_time": SECONDS,
            "resp_status": "404",
        },
    ),
    "500 response from Django": (
        "/view_exception/",
        CURL,
        {
            "event_type": "request",
            "req_method": "GET",
            "req_path": "/view_exception/",
            "req_referrer": UNKNOWN,
            "req_user_agent": re.escape("curl/7.88.1"),
            "exc_type": "MyError",
            "exc_msg": "Oh noes!",
            "exc_loc": r"ancestor_site\.py:\d+:view_exception",
            "exc_cause_loc": r"ancestor_site\.py:\d+:func_that_throws",
            "resp_view": r"ancestor_site\.view_exception",
            "resp_time": SECONDS,
            "resp_cpu_time": SECONDS,
            "resp_status": "500",
            "app_key": "val",
        },
    ),
    "200 response from Whitenoise (static assets)": (
        "/static/foo.txt",
        {**CURL, **FROM},
        {
            "event_type": "request",
            "req_method": "GET",
            "req_path": re.escape("/static/foo.txt"),
            "req_referrer": re.escape("http://localhost:8080/"),
            "req_user_agent": re.escape("curl/7.88.1"),
            "resp_status": "200",
        },
    ),
    "application-specific timing": (
        "/timed/",
        CURL,
        {"event_type": "request", "resp_status": "200", "app_custom_time": SECONDS},
    ),
}


@pytest.fixture(scope="module")
def ancestor_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The ancestor's example app under our package."""
    directory = tmp_path_factory.mktemp("ancestor")
    static = directory / "static"
    static.mkdir()
    (static / "foo.txt").write_text("a static asset\n")
    with gunicorn(
        "ancestor_site", directory, SITE_DIRECTORY=str(directory), SITE_STATIC=str(static)
    ) as server:
        # The arbiter looks at the backlog once a second.
        eventually(lambda: "g_backlog" in server.ask("/static/foo.txt")[1], server.report)
        yield server


def check(line: Line, example: dict[str, str]) -> None:
    """Compare a line with an example: the same keys, and values of the same meaning."""
    for key, pattern in example.items():
        if pattern == UNKNOWN:
            assert key not in line
        else:
            assert re.fullmatch(pattern, line[key]), f"{key}={line[key]!r} is not like {pattern!r}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_line_has_what_ancestors_line_had(ancestor_site: Server, name: str) -> None:
    """Queries written for the ancestor's lines find the same facts in ours."""
    path, headers, example = EXAMPLES[name]
    answer, line = ancestor_site.ask(path, **headers)
    check(line, {**example, **POOL})
    assert line["resp_status"] == str(answer.status)
    # The families of keys are the same as well: nothing of an exception or a query where it had none.
    families = ("exc_", "db_", "app_")
    assert {key for key in line if key.startswith(families)} == {
        key for key in example if key.startswith(families)
    }


def test_asset_is_served_by_whitenoise(ancestor_site: Server) -> None:
    """Django never saw the request; its line has the bytes and no route or view."""
    answer, line = ancestor_site.ask("/static/foo.txt")
    assert answer.body == b"a static asset\n"
    assert line["resp_bytes"] == "15"
    assert not {"req_route", "resp_view"} & set(line)


def test_partial_failure_and_request_are_joined(ancestor_site: Server) -> None:
    """Two lines, as the ancestor's: the failure's and the request's, of one `req_id`."""
    answer = ancestor_site.get("/partial_failure/", X_Request_ID="joined", **CURL)
    assert answer.body == b"degraded"

    def lines() -> list[Line]:
        return [line for line in ancestor_site.lines() if line["req_id"] == "joined"]

    eventually(lambda: len(lines()) == 2, ancestor_site.report)
    failure, request = lines()
    check(
        failure,
        {
            "event_type": "partial_failure",
            "req_id": "joined",
            "exc_type": "MyError",
            "exc_msg": "Oh noes!",
            "exc_loc": r"ancestor_site\.py:\d+:will_throw",
            "exc_cause_loc": r"ancestor_site\.py:\d+:func_that_throws",
        },
    )
    check(
        request,
        {
            "event_type": "request",
            "req_id": "joined",
            "req_method": "GET",
            "req_path": "/partial_failure/",
            "req_referrer": UNKNOWN,
            "req_user_agent": re.escape("curl/7.88.1"),
            "resp_view": r"ancestor_site\.partial_failure",
            "resp_time": SECONDS,
            "resp_cpu_time": SECONDS,
            "resp_status": "200",
        },
    )
    assert not [key for key in request if key.startswith("exc_")]
