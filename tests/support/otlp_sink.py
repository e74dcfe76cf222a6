"""OTLP receivers, over HTTP and gRPC, that keep everything they get, decoded."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.servers import Line, eventually

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class SunkEvent:
    """One event on a span, such as a recorded exception."""

    name: str
    attributes: Attributes


@dataclass(frozen=True)
class SunkSpan:
    """One span as it came over the wire; ids are hex, `parent_id` is empty for a root."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    started_ns: int
    ended_ns: int
    attributes: Attributes
    dropped_attributes: int
    events: tuple[SunkEvent, ...]
    status: str
    status_message: str
    scope: str
    resource: Attributes


@dataclass(frozen=True)
class SunkMetric:
    """One data point; `value` is a sum or gauge, of a histogram the sum; `count` a histogram's."""

    name: str
    unit: str
    value: float
    count: int
    attributes: Attributes
    scope: str
    resource: Attributes


@dataclass(frozen=True)
class SunkLog:
    """One log record; `event_name` tells events from mere messages."""

    event_name: str
    body: Any
    severity: str
    trace_id: str
    span_id: str
    attributes: Attributes
    scope: str
    resource: Attributes


@dataclass(repr=False)
class OtlpSink:
    """All that has been received so far, in the order it came."""

    endpoint: str = ""
    spans: list[SunkSpan] = field(default_factory=list)
    metrics: list[SunkMetric] = field(default_factory=list)
    logs: list[SunkLog] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def roots_of(self, trace_id: str) -> list[SunkSpan]:
        """Return the SERVER spans of a trace so far."""
        return [span for span in list(self.spans) if span.trace_id == trace_id and is_server(span)]

    def root_of(self, line: Line) -> SunkSpan:
        """Return the one root of a line's trace, once it is here.

        Exporters send in the order in which spans end, so whatever ended before the root is here,
        too: a second SERVER span would be.
        """
        trace_id = line["trace_id"]
        roots = eventually(
            lambda: self.roots_of(trace_id),
            lambda: f"no root of {trace_id}; received:\n{self.describe()}",
        )
        assert len(roots) == 1, f"{len(roots)} roots of {trace_id}: {roots}"
        return roots[0]

    def children_of(self, root: SunkSpan) -> list[SunkSpan]:
        """Return the spans whose parent is `root`."""
        return [span for span in list(self.spans) if span.parent_id == root.span_id]

    def text(self) -> str:
        """Return everything that was received as one text, to look for what must not be in it."""
        return "\n".join(list(self.requests))

    def describe(self) -> str:
        """Return the spans, one on a line, for a failure message."""
        return "\n".join(
            f"{span.trace_id} {span.span_id} < {span.parent_id or '-':16} {span.kind} {span.name}"
            for span in list(self.spans)
        )

    def take(self, path: str, body: bytes) -> Message | None:
        """Decode and keep one request; return its answer, None for a path that isn't OTLP's.

        Kept whole: a list that is extended by a generator shows half a request, the root of which may
        stand first.
        """
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            self.requests.append(str(traces))
            self.spans.extend([*_spans(traces)])
            return ExportTraceServiceResponse()
        if path == "/v1/metrics":
            metrics = ExportMetricsServiceRequest.FromString(body)
            self.requests.append(str(metrics))
            self.metrics.extend([*_metrics(metrics)])
            return ExportMetricsServiceResponse()
        if path == "/v1/logs":
            logs = ExportLogsServiceRequest.FromString(body)
            self.requests.append(str(logs))
            self.logs.extend([*_logs(logs)])
            return ExportLogsServiceResponse()
        return None


def is_server(span: SunkSpan) -> bool:
    """Return whether a span is of kind SERVER."""
    return span.kind == "SERVER"


@contextlib.contextmanager
def otlp_sink() -> Iterator[OtlpSink]:
    """Receive on a free port of 127.0.0.1 until left."""
    sink = OtlpSink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer = sink.take(self.path, body)
            payload = b"" if answer is None else answer.SerializeToString()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    sink.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="otlp-sink", daemon=True
    )
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[SunkSpan]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield SunkSpan(
                    name=span.name,
                    kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    started_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    dropped_attributes=span.dropped_attributes_count,
                    events=tuple(
                        SunkEvent(event.name, _attributes(event.attributes))
                        for event in span.events
                    ),
                    status=trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix(
                        "STATUS_CODE_"
                    ),
                    status_message=span.status.message,
                    scope=scope_spans.scope.name,
                    resource=resource,
                )


def _metrics(request: ExportMetricsServiceRequest) -> Iterator[SunkMetric]:
    for resource_metrics in request.resource_metrics:
        resource = _attributes(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                for point in data.data_points:
                    is_histogram = hasattr(point, "bucket_counts")
                    yield SunkMetric(
                        name=metric.name,
                        unit=metric.unit,
                        value=point.sum if is_histogram else point.as_double or point.as_int,
                        count=point.count if is_histogram else 0,
                        attributes=_attributes(point.attributes),
                        scope=scope_metrics.scope.name,
                        resource=resource,
                    )


def _logs(request: ExportLogsServiceRequest) -> Iterator[SunkLog]:
    for resource_logs in request.resource_logs:
        resource = _attributes(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield SunkLog(
                    event_name=record.event_name,
                    body=_value(record.body),
                    severity=record.severity_text,
                    trace_id=record.trace_id.hex(),
                    span_id=record.span_id.hex(),
                    attributes=_attributes(record.attributes),
                    scope=scope_logs.scope.name,
                    resource=resource,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


@contextlib.contextmanager
def grpc_sink() -> Iterator[OtlpSink]:
    """Receive by gRPC on a free port of 127.0.0.1 until left."""
    # Imported here: receiving by HTTP needs no grpcio.
    import grpc
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

    sink = OtlpSink()
    server = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="grpc-sink"))

    def answer(path: str) -> Callable[[Message, object], Message]:
        def export(request: Message, context: object) -> Message:
            response = sink.take(path, request.SerializeToString())
            assert response is not None
            return response

        return export

    for add, base, path in (
        (
            trace_service_pb2_grpc.add_TraceServiceServicer_to_server,
            trace_service_pb2_grpc.TraceServiceServicer,
            "/v1/traces",
        ),
        (
            metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server,
            metrics_service_pb2_grpc.MetricsServiceServicer,
            "/v1/metrics",
        ),
        (
            logs_service_pb2_grpc.add_LogsServiceServicer_to_server,
            logs_service_pb2_grpc.LogsServiceServicer,
            "/v1/logs",
        ),
    ):
        servicer = base()
        servicer.Export = answer(path)
        add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    sink.endpoint = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield sink
    finally:
        server.stop(None).wait()
