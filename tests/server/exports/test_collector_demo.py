"""The demo shop's traffic through the Collector, with the configuration that we ship."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from otel_canonical.event.fields import FIELDS, attribute_of
from otel_canonical.event.logfmt import as_text
from tests.support.demo_shop import shop
from tests.support.otlp_sink import OtlpSink, SunkLog, SunkSpan, is_server
from tests.support.peers.collector import Collector, shipped_collector
from tests.support.servers import DEMO, Line, Server, eventually
from tests.support.soak import IS_SOAK
from tests.support.stuck_requests import busy_worker

pytestmark = pytest.mark.soak

ENDINGS = ("request", "timeout", "lost")
STUCK = "/slow/?seconds=50"
#: One way to set exporters up is OpenTelemetry's variables, with either protocol, the other a file, which
#: exports over HTTP.
WAYS = ("http/protobuf", "grpc", "file") if IS_SOAK else ("grpc", "file")

DECLARED = """\
file_format: "1.0"
propagator:
  composite:
    - tracecontext:
tracer_provider:
  processors:
    - batch:
        schedule_delay: 50
        exporter:
          otlp_http:
            endpoint: {endpoint}/v1/traces
  sampler:
    parent_based:
      root:
        always_on:
logger_provider:
  processors:
    - batch:
        schedule_delay: 50
        exporter:
          otlp_http:
            endpoint: {endpoint}/v1/logs
meter_provider:
  readers:
    - periodic:
        interval: 200
        exporter:
          otlp_http:
            endpoint: {endpoint}/v1/metrics
"""


@dataclass
class Tour:
    """What visitors of the shop did, what was written about it, and what came out of the Collector."""

    lines: list[Line]
    received: OtlpSink

    def root_of(self, line: Line) -> SunkSpan:
        """Return the one root of a line's request."""
        roots = [span for span in self.received.spans if span.span_id == line["span_id"]]
        assert [(root.kind, root.trace_id) for root in roots] == [("SERVER", line["trace_id"])]
        return roots[0]

    def log_of(self, line: Line) -> SunkLog:
        """Return the one log event of a line."""
        name = f"canonical.{line['event_type']}"
        [log] = [
            log
            for log in self.received.logs
            if log.event_name == name and log.attributes["http.request.id"] == line["req_id"]
        ]
        return log


def settings_of(way: str, peer: Collector, directory: Path) -> dict[str, str]:
    """Return the variables that make a server export to the Collector."""
    if way == "file":
        configuration = directory / "otel.yaml"
        configuration.write_text(DECLARED.format(endpoint=peer.endpoint))
        return {"OTEL_CONFIG_FILE": str(configuration)}
    return {
        "OTEL_EXPORTER_OTLP_PROTOCOL": way,
        "OTEL_EXPORTER_OTLP_ENDPOINT": peer.grpc_endpoint if way == "grpc" else peer.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_BLRP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
    }


def visit(server: Server) -> int:
    """Send every kind of request that the shop knows; return how many."""
    sys.path.insert(0, str(DEMO))
    try:
        from tour.visitor import Visitor, visit_everything
    finally:
        sys.path.remove(str(DEMO))
    visitor = Visitor(str(server.address[0]), int(server.address[1]))
    visit_everything(visitor)
    assert [one for one in visitor.sent if one.status != one.expected] == []
    return len(visitor.sent)


def lose_one(server: Server) -> None:
    """Kill the worker that serves a request."""
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(server.send, head_of(STUCK, "to-be-lost"))
        os.kill(eventually(lambda: busy_worker(server), server.report), signal.SIGKILL)
        assert answer.result() == b""


def head_of(path: str, request_id: str) -> bytes:
    """Return a request as it is sent."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n\r\n".encode()


@pytest.fixture(scope="module", params=WAYS)
def tour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tour:
    """Every kind of request, one that is lost and one that times out; all has arrived."""
    directory = tmp_path_factory.mktemp("tour")
    lines: list[Line] = []
    with shipped_collector(directory) as peer:
        settings = settings_of(request.param, peer, directory)
        # Nothing but what shall times out, however slow the machine: hence a server of its own.
        with shop(directory, "-t", "60", workers=2, **settings) as server:
            lose_one(server)
            visited = visit(server)
            lines += eventually(lambda: whole(server, visited + 1), server.report)
            eventually(lambda: peer.received.metrics, peer.said)
        with shop(directory, "-t", "2", **settings) as server:
            server.send(head_of(STUCK, "to-be-timed-out"))
            lines += eventually(lambda: whole(server, 1), server.report)
        # The workers have taken leave of their exporters, the reporter of its own.
        missing = eventually_empty(lambda: not_arrived(lines, peer.received))
    assert missing == [], f"{missing}\n{peer.received.describe()}\n{peer.said()}"
    return Tour(lines, peer.received)


def whole(server: Server, endings: int) -> list[Line]:
    """Return the lines of requests, once there are as many endings as requests."""
    lines = [line for line in server.lines() if "req_id" in line]
    is_whole = [line["event_type"] in ENDINGS for line in lines].count(True) == endings
    return lines if is_whole else []


def not_arrived(lines: list[Line], received: OtlpSink) -> list[Line]:
    """Return the lines whose root or log event has not come out of the Collector."""
    roots = {span.span_id for span in list(received.spans)}
    events = {
        (log.event_name, log.attributes.get("http.request.id")) for log in list(received.logs)
    }
    return [
        line
        for line in lines
        if (f"canonical.{line['event_type']}", line["req_id"]) not in events
        or line["span_id"] not in roots
    ]


def eventually_empty(probe: Callable[[], list[Line]]) -> list[Line]:
    """Return what is still left when patience is over: nothing, if all goes well."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: not probe(), lambda: "")
    return probe()


def test_one_root_for_each_request(tour: Tour) -> None:
    """One SERVER span for each line that ends a request, no other, and no span without its parent."""
    lines = [line for line in tour.lines if line["event_type"] in ENDINGS]
    spans = tour.received.spans
    roots = [span for span in spans if is_server(span)]
    assert Counter(root.span_id for root in roots) == Counter(line["span_id"] for line in lines)
    ids = {(span.trace_id, span.span_id) for span in spans}
    assert len(ids) == len(spans)
    orphans = [s for s in spans if not is_server(s) and (s.trace_id, s.parent_id) not in ids]
    assert orphans == []


def test_root_has_the_wide_event(tour: Tour) -> None:
    """Each key of a line is on its root, with the value and the type of its field."""
    types = {"str": str, "int": int, "float": float, "bool": bool}
    of_field = {field.key: types[field.type] for field in FIELDS}
    for line in tour.lines:
        if line["event_type"] not in ENDINGS:
            continue
        root = tour.root_of(line)
        assert root.dropped_attributes == 0
        for key in set(line) - {"truncated"}:
            if name := attribute_of(key):
                value = root.attributes[name]
                if isinstance(value, float):
                    assert value == float(line[key]), key
                else:
                    # A statement is longer there than on a line.
                    shown = as_text(value)
                    assert shown == line[key] or shown.startswith(line[key].removesuffix("...")), (
                        key
                    )
                assert type(value) is of_field.get(key, type(value))


def test_log_event_has_what_the_root_has(tour: Tour) -> None:
    """One log event for each line, in the trace of its root, with the same attributes."""
    for line in tour.lines:
        log = tour.log_of(line)
        assert (log.trace_id, log.span_id) == (line["trace_id"], line["span_id"])
        if line["event_type"] in ENDINGS:
            root = tour.root_of(line)
            assert dict(log.attributes).items() <= dict(root.attributes).items()


def test_queries_are_below_their_root(tour: Tour) -> None:
    """Each query of an answered request is a CLIENT span below its root, also of a streamed body."""
    counts = {}
    for line in tour.lines:
        if line["event_type"] == "request":
            of_trace = [s for s in tour.received.spans if s.trace_id == line["trace_id"]]
            queries = [span for span in of_trace if "db.query.text" in span.attributes]
            assert {query.kind for query in queries} <= {"CLIENT"}
            counts[line["req_id"]] = (len(queries), int(line.get("db_queries", 0)))
    assert {made for made, _ in counts.values()} >= {10, 81, 301}
    assert [pair for pair in counts.items() if pair[1][0] != pair[1][1]] == []


def test_dead_requests_have_roots(tour: Tour) -> None:
    """The lost one and the one that timed out: ERROR, and where they were."""
    [lost] = [line for line in tour.lines if line["event_type"] == "lost"]
    [timeout] = [line for line in tour.lines if line["event_type"] == "timeout"]
    assert (lost["req_id"], timeout["req_id"]) == ("to-be-lost", "to-be-timed-out")
    for line in (lost, timeout):
        root = tour.root_of(line)
        assert (root.status, tour.log_of(line).severity) == ("ERROR", "ERROR")
        assert root.attributes["http.route"] == "slow/"
    assert tour.root_of(lost).attributes["canonical.lost_cause"] == "SIGKILL"
    assert "wait_for_stock" in tour.root_of(timeout).attributes["canonical.timeout_cause_loc"]


def test_metrics_arrive(tour: Tour) -> None:
    """Durations of requests, by route."""
    durations = [m for m in tour.received.metrics if m.name == "http.server.request.duration"]
    assert {"report.csv", "products/"} <= {m.attributes.get("http.route") for m in durations}
