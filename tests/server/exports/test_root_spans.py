"""One root SERVER span for each request, however it ends."""

from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.support.environments import without
from tests.support.otlp_sink import SunkSpan, is_server
from tests.support.servers import Line, gunicorn
from tests.support.traced_site import Traced, _numbers, traced_site


@pytest.mark.parametrize(
    ("path", "name", "status"),
    [
        ("/ok/", "GET ok/", "UNSET"),
        ("/item/a-1/", "GET item/<slug:slug>/", "UNSET"),
        ("/no-such-page/", "GET", "UNSET"),
        ("/missing/", "GET missing/", "UNSET"),
        ("/raises/", "GET raises/", "ERROR"),
        ("/bad-template/", "GET bad-template/", "ERROR"),
        ("/middleware-raises/", "GET", "ERROR"),
        ("/middleware-answers/", "GET", "UNSET"),
        ("/wsgi-answers/", "GET", "UNSET"),
        ("/wsgi-raises/", "GET", "ERROR"),
        ("/async-view/", "GET async-view/", "UNSET"),
        ("/stream/", "GET stream/", "UNSET"),
        ("/file/", "GET file/", "UNSET"),
    ],
)
def test_one_root_when_anyone_answers(either: Traced, path: str, name: str, status: str) -> None:
    """One root SERVER span with the line's ids, named after the route, ERROR for a 5xx only."""
    line, root = either.ask(path)
    assert (root.trace_id, root.span_id, line["sampled"]) == (
        line["trace_id"],
        line["span_id"],
        "true",
    )
    assert (root.name, root.kind, root.parent_id) == (name, "SERVER", "")
    assert root.status == status
    assert ("error.type" in root.attributes) == (status == "ERROR")
    assert root.attributes["http.response.status_code"] == int(line["resp_status"])
    assert root.attributes.get("http.route") == line.get("req_route")


@pytest.mark.parametrize(
    ("path", "error"),
    [("/raises/", "Error"), ("/wsgi-raises/", "Error"), ("/exits/", "SystemExit")],
)
def test_error_type_is_class_of_exception_when_request_fails(
    traced: Traced, path: str, error: str
) -> None:
    """`error.type` names what the line names."""
    line, root = traced.ask(path)
    assert root.attributes["error.type"] == line["exc_type"] == error


def test_one_root_when_host_is_bad(either: Traced) -> None:
    """Django's instrumentation gives such a request no span at all; ours is there."""
    line, root = either.ask("/ok/", Host="evil.example")
    assert (line["resp_status"], root.attributes["http.response.status_code"]) == ("400", 400)
    assert root.status == "UNSET"


def test_one_root_when_gunicorn_refuses(either: Traced) -> None:
    """A malformed request has a root, named by its method, with the status it was refused with."""
    before = len(either.server.lines())
    either.server.send(b"GET /refused/ HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n")
    [line] = either.server.wait_for_lines(before + 1)[before:]
    root = either.sink.root_of(line)
    assert (root.name, root.attributes["http.response.status_code"]) == ("GET", 400)
    assert root.status == "UNSET"


def test_one_root_when_client_is_gone(traced: Traced) -> None:
    """A client that resets the connection makes no failure of the server's."""
    request_id = f"gone-{next(_numbers)}"
    connection = traced.server.connect()
    connection.sendall(
        f"GET /stream-long/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n\r\n".encode()
    )
    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    root = traced.sink.root_of(traced.server.line_of(request_id))
    assert root.attributes["canonical.client_gone"] is True
    assert root.status == "UNSET"
    assert "error.type" not in root.attributes


def test_span_lasts_until_last_byte_when_body_is_streamed(either: Traced) -> None:
    """The root ends after the body, and the queries in the body are its children."""
    line, root = either.ask("/stream/")
    assert root.ended_ns - root.started_ns >= 300_000_000
    queries = either.sink.children_of(root)
    assert len(queries) == int(line["db_queries"]) == 3
    assert all(root.started_ns <= query.started_ns for query in queries)
    assert all(query.ended_ns <= root.ended_ns for query in queries)


def test_status_is_error_when_stream_breaks(traced: Traced) -> None:
    """The client got a 200 and a cut body: the status stays, the exception is on the span."""
    _, root = _send_raw(traced, "/stream-breaks/")
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["exception.message"] == "mid-stream"


def test_span_starts_when_request_is_accepted(either: Traced) -> None:
    """What runs before Django's view, WSGI middleware too, is inside the span."""
    sent_ns = time.time_ns()
    answer, line = either.server.ask("/clock/")
    root = either.sink.root_of(line)
    view_ns = json.loads(answer.body)["now_ns"]
    assert sent_ns <= root.started_ns <= view_ns - 100_000_000
    assert round((root.ended_ns - root.started_ns) / 1e9, 6) == float(line["resp_time"])


def test_trace_stays_whole_when_an_earlier_request_ended_the_hard_way(traced: Traced) -> None:
    """What a request leaves behind that raised SystemExit ends no later request's trace."""
    for path in ("/ok/", "/exits/"):
        traced.ask(path)
    line, root = traced.ask("/collects-garbage/")
    assert line["db_queries"] == "1"
    assert [child.name for child in traced.sink.children_of(root)] == ["SELECT"]


def test_no_orphans_when_every_kind_is_asked(either: Traced) -> None:
    """Every trace is a line's and has one root; every other span has a parent in its trace."""
    for path in ("/ok/", "/stream/", "/queries/", "/wsgi-answers/", "/async-queries/", "/raises/"):
        either.ask(path)
    lines = {line["trace_id"] for line in either.server.lines()}
    spans = list(either.sink.spans)
    ids = {(span.trace_id, span.span_id) for span in spans}
    roots = [span.trace_id for span in spans if is_server(span)]
    assert len(ids) == len(spans)
    assert sorted(roots) == sorted({span.trace_id for span in spans})
    assert {span.trace_id for span in spans} <= lines
    assert not [s for s in spans if not is_server(s) and (s.trace_id, s.parent_id) not in ids]


def test_no_span_but_line_when_url_is_excluded_from_tracing(tmp_path: Path) -> None:
    """OpenTelemetry's own exclusion takes the spans, ours takes the line with them."""
    with traced_site(
        tmp_path,
        OTEL_PYTHON_DJANGO_EXCLUDED_URLS="item/health",
        OTEL_PYTHON_CANONICAL_EXCLUDED_URLS="item/silent",
    ) as served:
        _, line = served.server.ask("/item/health/")
        served.server.get("/item/silent/")
        kept, _ = served.ask("/item/kept/")
    assert line["resp_status"] == "200"
    assert line["sampled"] == "false"
    assert len(served.server.lines()) == 2
    assert {span.trace_id for span in served.sink.spans} == {kept["trace_id"]}


def test_one_root_when_django_is_not_instrumented(tmp_path: Path) -> None:
    """Without Django's instrumentation the root is still there, and still tells everything."""
    with traced_site(tmp_path, **without("django")) as served:
        line, root = served.ask("/queries/")
        failed, failed_root = served.ask("/raises/")
    assert (root.name, root.attributes["canonical.db.queries"]) == ("GET queries/", 5)
    assert len(served.sink.children_of(root)) >= int(line["db_queries"])
    assert (failed_root.status, failed["exc_type"]) == ("ERROR", "Error")


def test_one_root_when_app_adds_span_processor_itself(tmp_path: Path) -> None:
    """With no exporter in the environment, a processor that the app adds in code gets the roots."""
    spans_file = tmp_path / "spans.jsonl"
    with gunicorn(
        "every_kind", tmp_path, SITE_DIRECTORY=str(tmp_path), SITE_SPANS_FILE=str(spans_file)
    ) as server:
        lines = [server.ask(path)[1] for path in ("/queries/", "/wsgi-answers/", "/stream/")]
    spans = [json.loads(text) for text in spans_file.read_text().splitlines()]
    roots = [span for span in spans if span["kind"] == "SpanKind.SERVER"]
    assert [line["sampled"] for line in lines] == ["true"] * 3
    assert [span["context"]["trace_id"] for span in roots] == [
        "0x" + line["trace_id"] for line in lines
    ]
    assert [span["name"] for span in roots] == ["GET queries/", "GET", "GET stream/"]
    assert roots[0]["attributes"]["canonical.db.queries"] == 5


def _send_raw(served: Traced, path: str) -> tuple[Line, SunkSpan]:
    """Send a request whose answer no HTTP client accepts; return its line and root."""
    request_id = f"raw-{next(_numbers)}"
    served.server.send(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    line = served.server.line_of(request_id)
    return line, served.sink.root_of(line)
