"""What the operator chose: excluded URLs and fields, redacted names, the id in the response."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, gunicorn


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every choice made that isn't the default, and two that can't be meant."""
    directory: Path = tmp_path_factory.mktemp("chosen")
    with gunicorn(
        "every_kind",
        directory,
        SITE_DIRECTORY=str(directory),
        OTEL_PYTHON_CANONICAL_EXCLUDED_URLS="^/pid/$,/item/health",
        OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS="req_user_agent, g_*,app_pl?n,resp_tyme",
        OTEL_PYTHON_CANONICAL_TIMEOUT_MARGIN_SECONDS="60",
        OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID="true",
        OTEL_PYTHON_CANONICAL_QUERY_STRING="true",
        OTEL_PYTHON_CANONICAL_REDACTED_NAMES="slug, membership",
    ) as server:
        yield server


def test_no_line_when_url_is_excluded(chosen: Server) -> None:
    """Excluded are the URLs whose path matches, and no others."""
    before = len(chosen.lines())
    paths = ("/pid/", "/item/health/", "/item/health-2/?q=1", "/item/well/?q=/pid/", "/ok/")
    for number, path in enumerate(paths):
        assert chosen.get(path, X_Request_ID=f"excluded-{number}").status == 200
    lines = chosen.wait_for_lines(before + 2)[before:]
    assert [line["req_id"] for line in lines] == ["excluded-3", "excluded-4"]


def test_no_field_when_glob_excludes_it(chosen: Server) -> None:
    """A glob hides what it matches, be it ours or the app's, and nothing beside it."""
    _, line = chosen.ask("/facts/?t=x", User_Agent="hidden", Referer="shown")
    assert not [key for key in line if key.startswith("g_")]
    assert "req_user_agent" not in line
    assert "app_plan" not in line
    assert (line["req_referrer"], line["app_seen"]) == ("shown", "x")


def test_start_says_which_choices_cannot_be_meant(chosen: Server) -> None:
    """A field that doesn't exist, a margin longer than Gunicorn's timeout: and what is done instead."""
    chosen.ask("/ok/")
    said = re.findall(r"\[WARNING\] (.*)", chosen.stderr.read_text())
    assert said == [
        "'resp_tyme' in OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS matches no field; it excludes nothing",
        "OTEL_PYTHON_CANONICAL_TIMEOUT_MARGIN_SECONDS=60 is not less than Gunicorn's timeout, "
        "30 seconds; using 0.5",
    ]


@pytest.mark.parametrize("path", ["/ok/", "/no-such-page/", "/raises/", "/stream/"])
def test_response_has_request_id_when_asked_for(chosen: Server, path: str) -> None:
    """The id of the line is the header of the answer, whether it was sent or made."""
    answer, line = chosen.ask(path)
    assert answer.headers["X-Request-ID"] == line["req_id"]
    before = len(chosen.lines())
    answer = chosen.get(path)
    [line] = chosen.wait_for_lines(before + 1)[before:]
    assert answer.headers["X-Request-ID"] == line["req_id"]
    assert re.fullmatch("[0-9a-f]{32}", line["req_id"])


def test_response_keeps_request_id_of_app(tmp_path: Path) -> None:
    """A header that the app has set is left alone, and not doubled."""
    with gunicorn(
        "plain_wsgi", tmp_path, OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID="true"
    ) as server:
        answer = server.send(
            b"GET /own-id/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: in\r\n\r\n"
        )
        server.wait_for_lines(1)
    assert re.findall(rb"(?i)x-request-id: (.*)\r", answer) == [b"the-app-s-own"]


def test_response_has_no_request_id_by_default(site: Server) -> None:
    """The header is opt-in."""
    answer, _ = site.ask("/ok/")
    assert "X-Request-ID" not in answer.headers


def test_query_string_is_redacted_when_asked_for(chosen: Server) -> None:
    """Secrets by their usual names and by the operator's; the rest as it was sent."""
    _, line = chosen.ask("/ok/?a=1&password=hunter2&Membership=gold&b=%20x&api_key=k")
    assert line["req_query"] == (
        "a=1&password=[redacted]&Membership=[redacted]&b=%20x&api_key=[redacted]"
    )


def test_query_string_is_nowhere_by_default(site: Server) -> None:
    """Neither as a field nor behind the path."""
    _, line = site.ask("/ok/?needle=1")
    assert "req_query" not in line
    assert not [value for value in line.values() if "needle" in value]


def test_query_string_is_nowhere_when_request_is_refused(site: Server) -> None:
    """Nor in the message of the exception with which Gunicorn refuses the request."""
    before = len(site.lines())
    site.send(b"GET /ok/?needle=1\r\nHost: localhost\r\n\r\n")
    [line] = site.wait_for_lines(before + 1)[before:]
    assert not [value for value in line.values() if "needle" in value]


def test_path_hides_secret_of_url_pattern(site: Server) -> None:
    """Django's own password-reset link carries a token: the path hides it, the route keeps the shape."""
    _, line = site.ask("/reset/MQ/c8f3a1-0123456789abcdef/")
    assert line["req_path"] == "/reset/MQ/[redacted]/"
    assert line["req_route"] == "reset/<uidb64>/<token>/"


def test_path_hides_secret_when_it_is_sent_as_raw_utf8(site: Server) -> None:
    """Gunicorns that let such a path through must not make it unrecognisable."""
    before = len(site.lines())
    site.send("GET /reset/MQ/t\u00f6k\u00e9n/ HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    [line] = site.wait_for_lines(before + 1)[before:]
    assert line.get("req_path", "/reset/MQ/[redacted]/") == "/reset/MQ/[redacted]/"


def test_path_hides_what_operator_names(chosen: Server) -> None:
    """`REDACTED_NAMES` holds for parameters of the URL, too."""
    _, line = chosen.ask("/item/private-page/")
    assert (line["req_path"], line["req_route"]) == ("/item/[redacted]/", "item/<slug:slug>/")
