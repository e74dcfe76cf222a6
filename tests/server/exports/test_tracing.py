"""Traces: one root SERVER span per request, the line's facts on it, and the line whatever is sampled."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import TraceFlags, TraceState

from otel_canonical.event import logfmt
from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.event.fields import FIELDS, attribute_of
from otel_canonical.otel import sdk
from otel_canonical.otel.root_factory import Recording, RootFactory
from otel_canonical.otel.root_span import UnexportedRoot
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings
from tests.support.otlp_sink import SunkSpan, is_server, otlp_sink
from tests.support.servers import Line, Server, eventually, gunicorn
from tests.support.traced_site import Traced, traced_site

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"

#: Types of fields as they come over the wire.
TYPES = {"str": str, "int": int, "float": float, "bool": bool}

_numbers = itertools.count()


@dataclass
class Neighbour:
    """Another HTTP service, and the `traceparent` of every call it got."""

    url: str = ""
    callers: list[str | None] = field(default_factory=list)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Every signal exported, as with nothing set but an endpoint."""
    with traced_site(tmp_path_factory.mktemp("traced"), OTEL_METRIC_EXPORT_INTERVAL="50") as served:
        yield served


@pytest.fixture(scope="module")
def traced_otherwise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Traces only, both generations of attribute names, few attributes, threads, compression."""
    with traced_site(
        tmp_path_factory.mktemp("traced"),
        *("-k", "gthread", "--threads", "2"),
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_SEMCONV_STABILITY_OPT_IN="http/dup,database",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="128",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
    ) as served:
        yield served


@pytest.fixture(scope="module")
def unsampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """An exporter, and a sampler that drops everything."""
    with traced_site(
        tmp_path_factory.mktemp("traced"),
        OTEL_TRACES_SAMPLER="traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.0",
    ) as served:
        yield served


@pytest.fixture(params=["traced", "traced_otherwise"])
def either(request: pytest.FixtureRequest) -> Traced:
    """Each of the servers that export every span."""
    served: Traced = request.getfixturevalue(request.param)
    return served


@pytest.fixture(params=["exported", "unsampled", "no exporter"])
def whatever_is_exported(request: pytest.FixtureRequest) -> Server:
    """A server that exports every span, one that exports none, one that has no exporter."""
    if request.param == "no exporter":
        site: Server = request.getfixturevalue("site")
        return site
    name = "traced" if request.param == "exported" else "unsampled"
    served: Traced = request.getfixturevalue(name)
    return served.server


@pytest.fixture(scope="module")
def neighbour() -> Iterator[Neighbour]:
    """Answer 503 on `/broken`, 200 elsewhere."""
    found = Neighbour()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.callers.append(self.headers.get("traceparent"))
            self.send_response(503 if self.path == "/broken" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="neighbour")
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


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


def test_trace_is_continued_when_caller_sampled(either: Traced) -> None:
    """The caller's trace, the caller's span as parent."""
    trace_id = f"{next(_numbers) + 1:032x}"
    line, root = either.ask("/queries/", traceparent=f"00-{trace_id}-{CALLER}-01")
    assert line["trace_id"] == trace_id
    assert line["sampled"] == "true"
    assert (root.span_id, root.parent_id) == (line["span_id"], CALLER)


def test_line_without_span_when_caller_did_not_sample(either: Traced) -> None:
    """A caller that says unsampled silences its spans, not its line."""
    _, line = either.server.ask("/queries/", traceparent=f"00-{TRACE}-{CALLER}-00")
    assert (line["trace_id"], line["sampled"]) == (TRACE, "false")
    assert line["db_queries"] == "5"
    assert line["span_id"] != CALLER
    either.ask("/ok/")  # exported after it would have been
    assert not [span for span in either.sink.spans if span.trace_id == TRACE]


@pytest.mark.parametrize("header", ["nonsense", "00-" + "0" * 32 + f"-{CALLER}-01", f"00-{TRACE}"])
def test_new_trace_when_traceparent_is_malformed(traced: Traced, header: str) -> None:
    """A header that names no trace is as good as none."""
    line, root = traced.ask("/ok/", traceparent=header)
    assert line["trace_id"] not in (TRACE, "0" * 32)
    assert root.parent_id == ""


@pytest.mark.parametrize(
    ("sampler", "ratio", "expected"),
    [
        ("always_off", "", {"false"}),
        ("traceidratio", "0.5", {"true", "false"}),
        ("parentbased_traceidratio", "0.5", {"true", "false"}),
    ],
)
def test_every_line_and_only_sampled_spans_when_sampler_drops(
    tmp_path: Path, sampler: str, ratio: str, expected: set[str]
) -> None:
    """All lines; exported are exactly those requests whose line says `sampled=true`."""
    with traced_site(
        tmp_path, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=ratio
    ) as served:
        lines = [served.server.ask("/queries/")[1] for _ in range(40)]
    assert {line["db_queries"] for line in lines} == {"5"}
    assert {line["sampled"] for line in lines} == expected
    assert sorted(span.trace_id for span in served.sink.spans if is_server(span)) == sorted(
        line["trace_id"] for line in lines if line["sampled"] == "true"
    )
    assert {span.trace_id for span in served.sink.spans} == {
        line["trace_id"] for line in lines if line["sampled"] == "true"
    }


@pytest.mark.parametrize("path", ["/queries/", "/facts/?t=1", "/raises/", "/cached/"])
def test_every_field_is_on_span_when_exported(either: Traced, path: str) -> None:
    """Each key of the line is an attribute of the same value, and of the field's type."""
    line, root = either.ask(path, User_Agent="probe/1.0", Referer="http://from.example/a")
    types = {description.key: TYPES.get(description.type) for description in FIELDS}
    for key, text in line.items():
        attribute = attribute_of(key)
        if attribute:
            value = root.attributes[attribute]
            spellings = [logfmt.parse(logfmt.encode([(key, value)]))[key]]
            if type(value) is float:
                # On an ordinary request's line a duration has all its six digits.
                spellings.append(f"{value:.6f}")
            assert text in spellings
            assert types.get(key) in (None, type(value)), (key, value)


def test_host_is_clean_when_both_generations_of_names_are_used(traced_otherwise: Traced) -> None:
    """`server.address` has no port; both generations agree on method, status and route."""
    _, root = traced_otherwise.ask("/ok/", Host="localhost:8000")
    attributes = root.attributes
    assert attributes["server.address"] == "localhost"
    assert attributes["http.request.method"] == attributes["http.method"] == "GET"
    assert attributes["http.response.status_code"] == attributes["http.status_code"] == 200
    assert attributes["http.route"] == "ok/"


@pytest.mark.parametrize("path", ["/ok/", "/raises/", "/no-such-page/", "/wsgi-answers/"])
def test_query_string_is_nowhere_when_nothing_is_set(either: Traced, path: str) -> None:
    """What stands behind the `?` leaves the process in no attribute, event or metric."""
    needle = f"needle{next(_numbers)}"
    line, root = either.ask(f"{path}?q={needle}")
    assert "req_query" not in line
    assert needle not in repr(root)
    assert needle not in either.sink.text()


def test_query_string_is_redacted_when_asked_for(tmp_path: Path) -> None:
    """The operator's choice shows it, its secrets redacted, on line and span alike."""
    with traced_site(
        tmp_path,
        OTEL_PYTHON_CANONICAL_QUERY_STRING="true",
        OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS="req_user_agent,db_*",
        OTEL_SEMCONV_STABILITY_OPT_IN="http/dup",
    ) as served:
        line, root = served.ask("/queries/?q=fine&token=hunter2", User_Agent="probe/1.0")
    assert root.attributes["url.query"] == line["req_query"]
    assert "q=fine" in line["req_query"]
    assert "hunter2" not in served.sink.text()
    assert "probe/1.0" not in served.sink.text()
    assert not [name for name in root.attributes if name.startswith("canonical.db.")]


def test_reset_token_is_nowhere_when_link_is_followed(either: Traced) -> None:
    """A password-reset link carries its token in the path; the route keeps the shape."""
    token = f"c0ffee-{next(_numbers):032d}"
    line, root = either.ask(f"/reset/MQ/{token}/")
    assert line["req_path"] == root.attributes["url.path"] == "/reset/MQ/[redacted]/"
    assert root.attributes["http.route"] == "reset/<uidb64>/<token>/"
    assert root.name == "GET reset/<uidb64>/<token>/"
    assert token not in either.sink.text()


def test_secret_is_nowhere_when_exception_names_it(either: Traced) -> None:
    """An exception's message is redacted wherever it leaves: attribute, event, status."""
    _, root = either.ask("/raises-secret/")
    assert root.status == "ERROR"
    assert "hunter2" not in repr(root)


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
    with traced_site(tmp_path, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="django") as served:
        line, root = served.ask("/queries/")
        failed, failed_root = served.ask("/raises/")
    assert (root.name, root.attributes["canonical.db.queries"]) == ("GET queries/", 5)
    assert len(served.sink.children_of(root)) >= int(line["db_queries"])
    assert (failed_root.status, failed["exc_type"]) == ("ERROR", "Error")


def test_queries_are_children_when_driver_is_instrumented(either: Traced) -> None:
    """Each query has a CLIENT span under the root, or under the app's own span."""
    line, root = either.ask("/own-spans/")
    [own] = either.sink.children_of(root)
    assert (own.name, own.scope) == ("pricing", "app")
    [query] = either.sink.children_of(own)
    assert (query.kind, query.trace_id) == ("CLIENT", root.trace_id)
    assert line["db_queries"] == "1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/queries/", {"db_queries": "5", "db_dup_queries": "2"}),
        ("/failing-query/", {"db_queries": "1", "db_dup_queries": "0", "db_errors": "1"}),
        ("/stream/", {"db_queries": "3", "db_dup_queries": "3"}),
        ("/raw-sqlite/", {"db_queries": "1", "db_dup_queries": "0"}),
    ],
)
def test_queries_are_counted_once_whatever_is_exported(
    whatever_is_exported: Server, path: str, expected: Line
) -> None:
    """Django's queries by Django, others by their spans, none by both, exported or not."""
    _, line = whatever_is_exported.ask(path)
    counts = ("db_queries", "db_dup_queries", "db_errors")
    assert {key: line[key] for key in counts if key in line} == expected


def test_calls_are_counted_whatever_is_exported(
    whatever_is_exported: Server, neighbour: Neighbour
) -> None:
    """Outgoing HTTP is counted with its failures, through any instrumented client."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # taken, and nobody listens
        nobody = f"http://127.0.0.1:{silent.getsockname()[1]}"
        answer, line = whatever_is_exported.ask(
            f"/outgoing/?url={neighbour.url}/&url={neighbour.url}/broken&url={nobody}/"
        )
    assert json.loads(answer.body) == {"survived": 3}  # urllib raises on 503, requests doesn't
    assert {key: line.get(key) for key in ("http_calls", "http_errors", "db_queries")} == {
        "http_calls": "6",
        "http_errors": "4",
        "db_queries": None,
    }
    assert 0 < float(line["http_time"]) <= float(line["resp_time"]), line


def test_calls_carry_trace_whatever_is_sampled(
    traced: Traced, unsampled: Traced, neighbour: Neighbour
) -> None:
    """The called service sees the line's trace, and whether the trace is exported."""
    for served, is_sampled in ((traced, 1), (unsampled, 0)):
        neighbour.callers.clear()
        _, line = served.server.ask(f"/outgoing/?url={neighbour.url}/")
        assert len(neighbour.callers) == 2
        for caller in neighbour.callers:
            assert caller is not None
            _, trace_id, span_id, flags = caller.split("-")
            assert (trace_id, int(flags, 16) & 1) == (line["trace_id"], is_sampled)
            assert span_id != line["span_id"]


def test_nothing_is_exported_when_nothing_is_sampled(unsampled: Traced) -> None:
    """Calls that are recorded to be counted don't leave the process."""
    _, line = unsampled.server.ask("/raw-sqlite/")
    assert (line["db_queries"], line["sampled"]) == ("1", "false")
    assert unsampled.sink.spans == []


@pytest.mark.parametrize("which", ["traced", "traced_otherwise"])
def test_route_survives_when_app_sets_more_keys_than_span_holds(
    which: str, request: pytest.FixtureRequest
) -> None:
    """300 facts evict none of ours; with OpenTelemetry's own limit they evict each other."""
    served: Traced = request.getfixturevalue(which)
    line, root = served.ask("/many-facts/")
    assert line["truncated"] == "true"
    assert root.attributes["http.route"] == "many-facts/"
    for key in set(line) - {"truncated"}:
        if not key.startswith("app_") and attribute_of(key):
            assert attribute_of(key) in root.attributes
    own = [name for name in root.attributes if name.startswith("app.key_")]
    if which == "traced":
        assert (len(own), root.dropped_attributes) == (300, 0)
    else:
        assert len(root.attributes) == 128


def test_metrics_count_each_request_once_when_exported(traced: Traced) -> None:
    """Django's instrumentation goes on recording what it records."""
    for _ in range(3):
        traced.ask("/item/counted/")

    def counted() -> int:
        return max(
            [
                metric.count
                for metric in list(traced.sink.metrics)
                if metric.name == "http.server.request.duration"
                and metric.attributes.get("http.route") == "item/<slug:slug>/"
                and metric.attributes.get("http.response.status_code") == 200
            ],
            default=0,
        )

    lines = [
        line
        for line in traced.server.lines()
        if line.get("req_route") == "item/<slug:slug>/" and line["resp_status"] == "200"
    ]
    eventually(lambda: counted() >= len(lines), lambda: f"{counted()} instead of {len(lines)}")
    assert counted() == len(lines)


def test_metrics_return_to_zero_when_requests_are_over(traced: Traced) -> None:
    """No request is counted as active for ever, not even one that ended in SystemExit."""
    for path in ("/exits/", "/raises/", "/item/active/"):
        traced.ask(path)

    def active() -> dict[str, float]:
        return {
            repr(sorted(metric.attributes.items())): metric.value
            for metric in list(traced.sink.metrics)
            if metric.name == "http.server.active_requests"
        }

    eventually(lambda: active() and not any(active().values()), lambda: f"still active: {active()}")


def test_resource_names_distro_when_exported(traced: Traced) -> None:
    """Every span says which distro it comes from (semantic conventions, "Telemetry Distro")."""
    _, root = traced.ask("/ok/")
    assert root.resource["telemetry.distro.name"] == "otel-canonical"
    assert root.resource["telemetry.distro.version"]


def test_odd_facts_leave_span_whole_when_exported(either: Traced) -> None:
    """Values that no exporter can carry cost themselves, not the span."""
    line, root = either.ask("/odd-facts/")
    assert root.attributes["app.date"] == line["app_date"] == "2024-02-29"
    assert root.attributes["app.true"] is True
    assert root.attributes["http.route"] == "odd-facts/"


def test_one_root_when_sdk_is_configured_by_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A declarative configuration, its sampler included, gives the same lines and roots."""
    pytest.importorskip(
        "opentelemetry.configuration", reason="pip install opentelemetry-sdk[file-configuration]"
    )
    directory = tmp_path_factory.mktemp("declared")
    configuration = directory / "otel.yaml"
    with otlp_sink() as sink:
        configuration.write_text(
            f"""\
file_format: "1.0"
propagator:
  composite:
    - tracecontext:
tracer_provider:
  processors:
    - batch:
        schedule_delay: 20
        exporter:
          otlp_http:
            endpoint: {sink.endpoint}/v1/traces
  sampler:
    parent_based:
      root:
        always_on:
"""
        )
        with gunicorn(
            "every_kind",
            directory,
            SITE_DIRECTORY=str(directory),
            OTEL_CONFIG_FILE=str(configuration),
        ) as server:
            served = Traced(server, sink)
            line, root = served.ask("/queries/")
            assert (line["sampled"], line["db_queries"]) == ("true", "5")
            assert (root.name, root.span_id) == ("GET queries/", line["span_id"])
            assert len(sink.children_of(root)) >= 5
            _, dropped = server.ask("/raw-sqlite/", traceparent=f"00-{TRACE}-{CALLER}-00")
            assert (dropped["sampled"], dropped["db_queries"]) == ("false", "1")


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


def _end_in_upstreams_next_order(span: sdk_trace.Span, end_time: int | None = None) -> None:
    # opentelemetry-python PR #5613: the ending hook runs while attributes may still be set.
    with span._lock:
        span._end_time = end_time
    ended, span._end_time = span._end_time, None
    span._span_processor._on_ending(span)
    with span._lock:
        span._end_time = ended
        span._attributes._immutable = True
    span._span_processor.on_end(span._readable_span())


class _WritesWhileEnding(sdk_trace.SpanProcessor):
    """What others may do once the ending hook lets them."""

    def _on_ending(self, span: sdk_trace.Span) -> None:
        if span.is_recording():
            span.set_attribute("other.late", True)


@pytest.mark.parametrize("can_write_while_ending", [False, True])
def test_event_is_on_span_on_either_sdk(
    can_write_while_ending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wide event is written on today's SDK and on one whose ending hook may set attributes."""
    if can_write_while_ending:
        monkeypatch.setattr(sdk_trace.Span, "end", _end_in_upstreams_next_order)
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(_WritesWhileEnding())
    scope = RequestScope("GET", "/ok/", {})
    RootFactory(Recording(provider.get_tracer("test")), str).open(scope, "0" * 48)
    scope.route, scope.status, scope.ended_ns = "ok/", 200, scope.started_ns + 5_000_000
    scope.root.span.end()  # as Django's middleware does, before a streamed body
    assert exporter.get_finished_spans() == ()
    event = CanonicalEvent.of_pairs(EventType.REQUEST, (("req_route", "ok/"), ("app_plan", "pro")))
    scope.root.finish(event, scope, {})
    scope.root.detach()
    [span] = exporter.get_finished_spans()
    assert span.attributes is not None
    assert (span.attributes["http.route"], span.attributes["app.plan"]) == ("ok/", "pro")
    assert ("other.late" in span.attributes) == can_write_while_ending
    assert (span.name, span.start_time) == ("GET ok/", scope.started_wall_ns)
    assert span.end_time == scope.started_wall_ns + 5_000_000


class _Asked(Sampler):
    """Takes what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.decision = Decision.DROP
        self.asked: list[int] = []

    def should_sample(
        self, parent_context: Context | None, trace_id: int, *args: object, **kwargs: object
    ) -> SamplingResult:
        self.asked.append(trace_id)
        return SamplingResult(self.decision, trace_state=TraceState([("ot", "th:c")]))

    def get_description(self) -> str:
        return "asked"


@pytest.mark.parametrize("called", [False, True])
def test_sampler_is_asked_once_and_obeyed(called: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a root that is not exported no span is made; ids, flags and trace state are as of one."""
    sampler = _Asked()
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    roots = sdk.connect(Settings(), exports=True, redact=str)
    headers = {"TRACEPARENT": f"00-{7:032x}-{8:016x}-03"} if called else {}
    for decision in (Decision.DROP, Decision.RECORD_AND_SAMPLE):
        sampler.decision = decision
        scope = RequestScope("GET", "/ok/", headers)
        root = roots.open(scope, "1" * 16 + "2" * 32, is_called=called)
        root.detach()
        context = root.span.get_span_context()
        assert context.trace_id == (7 if called else int("2" * 32, 16)) == int(root.trace_id, 16)
        assert context.trace_flags == TraceFlags.RANDOM_TRACE_ID | (decision is not Decision.DROP)
        assert context.trace_state == {"ot": "th:c"}
        assert isinstance(root, UnexportedRoot) == (decision is Decision.DROP)
        assert root.is_exported == (decision is not Decision.DROP)
        assert sampler.asked == [context.trace_id]
        sampler.asked.clear()


def _send_raw(served: Traced, path: str) -> tuple[Line, SunkSpan]:
    """Send a request whose answer no HTTP client accepts; return its line and root."""
    request_id = f"raw-{next(_numbers)}"
    served.server.send(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    line = served.server.line_of(request_id)
    return line, served.sink.root_of(line)


def test_calls_carry_callers_trace_or_none_when_nothing_is_exported(
    site: Server, neighbour: Neighbour
) -> None:
    """A site without an exporter passes the caller's trace on as it came, and begins none.

    "Not sampled" would switch the tracing of the called service off.
    """
    neighbour.callers.clear()
    _, line = site.ask(f"/outgoing/?url={neighbour.url}/")
    assert line["http_calls"] == "2"
    assert neighbour.callers == [None, None]
    neighbour.callers.clear()
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    _, line = site.ask(f"/outgoing/?url={neighbour.url}/", traceparent=caller)
    assert line["trace_id"] == caller.split("-")[1]
    assert neighbour.callers == [caller, caller]
