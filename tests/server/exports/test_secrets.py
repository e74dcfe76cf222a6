"""One policy for every place: a secret that a site puts everywhere is on no line, span, record or report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.operating import stop_politely
from tests.support.otlp_sink import OtlpSink, otlp_sink
from tests.support.servers import Line, Server, eventually, gunicorn

SECRET = "hunter2"
JWT = "eyJhbGciOiJ9.eyJzdWIi.sig-x"


class Site:
    """A server, and the receiver of what it exports."""

    def __init__(self, server: Server, sink: OtlpSink, go_on: Path) -> None:
        self.server, self.sink, self.go_on = server, sink, go_on


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Everything is exported, and stacks have local variables. Nothing is strict: one report is provoked."""
    directory = tmp_path_factory.mktemp("secretive")
    go_on = directory / "go_on"
    os.mkfifo(go_on)
    with otlp_sink() as sink:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_BLRP_SCHEDULE_DELAY": "20",
            "OTEL_PYTHON_CANONICAL_QUERY_STRING": "true",
            "OTEL_PYTHON_CANONICAL_SLOW_SECONDS": "0.2",
            "OTEL_PYTHON_CANONICAL_SLOW_LOCALS": "true",
            "OTEL_CANONICAL_STRICT": "0",
            "GO_ON": str(go_on),
        }
        with gunicorn(
            "secretive", directory, "--threads", "2", expects_report=True, **settings
        ) as server:
            yield Site(server, sink, go_on)
            stop_politely(server)
        assert SECRET not in sink.text()
        assert JWT not in sink.text()
        lines = server.stdout.read_text()
        assert SECRET not in lines
        assert JWT not in lines


def line_and_root(site: Site, path: str, **headers: str) -> tuple[Line, dict[str, object]]:
    """Send a request; return its line and the attributes of its root."""
    _, line = site.server.ask(path, **headers)
    return line, dict(site.sink.root_of(line).attributes)


def test_exception_on_line_and_root(site: Site) -> None:
    """Message, stack with its causes, the app's facts."""
    line, root = line_and_root(site, "/raises/")
    shown = (
        "('password', '[redacted]') and AccountKey=[redacted]; q=token%3D[redacted] "
        "Key (api_key)=([redacted])"
    )
    assert line["exc_msg"] == line["app_note"] == root["exception.message"] == shown
    assert line["app_api_key"] == root["app.api_key"] == "[redacted]"
    assert str(root["exception.stacktrace"]).count("Key (api_key)=([redacted])") == 2


def test_survived_exception_on_its_own_line(site: Site) -> None:
    """A partial failure is an event like any other."""
    site.server.ask("/ping/plain/")
    before = len(site.server.lines())
    site.server.get("/partial/")
    lines = site.server.wait_for_lines(before + 2)
    [failure] = [line for line in lines[before:] if line["event_type"] == "partial_failure"]
    assert "Key (api_key)=([redacted])" in failure["exc_msg"]


def test_path_query_and_referrer(site: Site) -> None:
    """Captured parts, parameters, tokens; of a foreign page the origin, of our own its path."""
    line, root = line_and_root(
        site,
        f"/ping/{SECRET}/?code={SECRET}&q=1&key={SECRET}",
        Referer=f"https://other/{SECRET}?a=1",
    )
    assert line["req_path"] == root["url.path"] == "/ping/[redacted]/"
    [event] = eventually(
        lambda: [
            log
            for log in list(site.sink.logs)
            if log.event_name and log.attributes["http.request.id"] == line["req_id"]
        ],
        site.server.report,
    )
    assert str(event.body).startswith("GET /ping/[redacted]/ ")
    assert line["req_query"] == root["url.query"] == "code=[redacted]&q=1&key=[redacted]"
    assert line["req_referrer"] == root["http.request.header.referer"] == "https://other"
    reset = "http://localhost:8000/reset/MQ/c1a2b3-0123456789abcdef0123456789abcdef/?x=1"
    line, _ = line_and_root(site, f"/nowhere/{JWT}/", Referer=reset)
    assert line["req_path"] == "/nowhere/[redacted]/"
    assert line["req_referrer"] == "http://localhost:8000/reset/MQ/c1a2b3-[redacted]/"
    line, _ = line_and_root(site, "/enrich/", Referer="http://localhost/shop/blue-chairs/12/")
    assert line["req_referrer"] == "http://localhost/shop/blue-chairs/12/"


def test_child_spans(site: Site) -> None:
    """URLs and statements of calls; messages, stacks and status of exceptions."""
    _, line = site.server.ask("/child-spans/")
    root = site.sink.root_of(line)
    spans = {span.name: span for span in site.sink.children_of(root)}
    assert spans["call"].attributes["url.full"] == (
        "https://[redacted]@host/a?code=[redacted]&key=[redacted]&ticket=[redacted]"
    )
    assert spans["call"].attributes["db.query.text"] == "SELECT * FROM users WHERE token = ?"
    [event] = spans["inner"].events
    assert "Key (api_key)=([redacted])" in event.attributes["exception.message"]
    assert event.attributes["exception.stacktrace"].count("Key (api_key)=([redacted])") == 2
    assert "Key (api_key)=([redacted])" in spans["inner"].status_message


def test_local_variables_of_slow_request(site: Site) -> None:
    """By their names, and by the names in their values."""
    before = len(site.server.lines())
    asked = site.server.connect()
    asked.sendall(b"GET /slow/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    site.server.wait_for_lines(before + 1)
    site.go_on.write_text("go on")
    asked.recv(1000)
    asked.close()
    [slow] = [
        line for line in site.server.wait_for_lines(before + 2) if line["event_type"] == "slow"
    ]
    for shown in ("tok=[redacted]", "card=[redacted]", "password=[redacted]", "?code=[redacted]"):
        assert shown in slow["slow_stack"]


def test_log_records_and_reports(site: Site) -> None:
    """The app's exported records, and our own report, which a client's text must not forge."""
    site.server.ask("/logs/")
    site.server.ask("/enrich/?report")
    found = site.server.wait_for(
        r"(?s)failed while asking 'fails_to_enrich'.*?\nValueError: [^\n]*"
    )
    report = found[0]
    assert SECRET not in report
    assert "postgres://user:[redacted]@host \\x1b[2J\\n[INFO] forged" in report
    assert "\n[INFO] forged" not in site.server.stderr.read_text()
