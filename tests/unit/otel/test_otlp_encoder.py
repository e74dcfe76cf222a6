"""BatchEncoder: its bytes compared with those of OpenTelemetry's own encoder."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
)

from otel_canonical.otel.otlp_encoder import (
    LOG_RECORDS,
    MOST_ENVELOPES,
    SLICE,
    SPANS,
    BatchEncoder,
)
from otel_canonical.otel.otlp_values import MOST_NAMES
from tests.support.servers import PATIENCE_S

#: Every way in which a value is written, and those that only OpenTelemetry writes, or drops.
VALUES: dict[str, Any] = {
    "empty": "",
    "text": "GET /articles/",
    "not ASCII": "/caf\u00e9/\U0001f600",
    "125 bytes": "x" * 125,
    "126 bytes": "x" * 126,
    "as many characters, more bytes": "\u00e9" * 125,
    "long": "x" * 70_000,
    "zero": 0,
    "small": 127,
    "not small": 128,
    "more": 300,
    "beyond the table": 70_000,
    "negative": -1,
    "largest": 2**63 - 1,
    "smallest": -(2**63),
    "true": True,
    "false": False,
    "no time": 0.0,
    "time": 0.123456,
    "infinite": math.inf,
    "texts": ("a", "b", ""),
    "numbers": (1, -2, 2**40),
    "none": (),
    "nested": (("a",), (1.5, True)),
    "bytes": b"\0\xff",
    "mapping": {"a": 1},
    "no value": None,
    "too large": 2**63,
    "half a pair": "\ud800",
}

CALLER = SpanContext(
    trace_id=0x4BF92F3577B34DA6A3CE929D0E0E4736,
    span_id=0x00F067AA0BA902B7,
    is_remote=True,
    trace_flags=TraceFlags(TraceFlags.SAMPLED),
    trace_state=TraceState([("vendor", "a"), ("other", "b=c")]),
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """OpenTelemetry says what it drops; here it is meant to."""
    logger = logging.getLogger("opentelemetry")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


class Spans:
    """Makes ended spans."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test", "1.2", "https://example.com/schema")

    def made(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()


def records_of(request: Any, kind: Any) -> list[bytes]:
    """Return each record of a request with what stands around it, in an order that doesn't matter."""
    found = []
    for of_resource in getattr(request, kind.of_request):
        for of_scope in getattr(of_resource, kind.of_resource):
            for record in getattr(of_scope, kind.of_scope):
                around = (of_resource.resource, of_resource.schema_url, of_scope.scope)
                found.append(f"{around}{of_scope.schema_url}{record}".encode())
    return sorted(found)


class Upstream:
    """OpenTelemetry's encoder, and how many records it was left."""

    def __init__(self, encode: Any) -> None:
        self._encode = encode
        self.left = 0

    def __call__(self, batch: Sequence[Any]) -> Any:
        self.left += len(batch)
        return self._encode(batch)


def check(kind: Any, encode: Any, batch: Sequence[Any], *, left: int) -> None:
    """Compare both encoders' requests; `left` is how many records ours leaves to the other."""
    upstream = Upstream(encode)
    encoder = BatchEncoder(kind, upstream)
    encoder(batch)  # what is learned from the first record is not to be told from what follows
    upstream.left = 0
    request = encoder(batch)
    assert records_of(request, kind) == records_of(encode(batch), kind)
    assert upstream.left == left
    again = type(request).FromString(request.SerializeToString())
    assert records_of(again, kind) == records_of(request, kind)


#: What ours doesn't write.
UNUSUAL = {"bytes", "mapping", "too large", "half a pair", "no value"}


@pytest.mark.parametrize("name", VALUES)
def test_attribute_of_span_and_log_record(name: str) -> None:
    """Each value, among others, on both kinds of record."""
    attributes = {"before": "a", name: VALUES[name], "after": 1}
    spans = Spans()
    spans.tracer.start_span("work", attributes=attributes).end()
    spans.tracer.start_span("work", attributes={"plain": 1}).end()
    check(SPANS, encode_spans, spans.made(), left=name in UNUSUAL)
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("test").emit(body="said", attributes=attributes)
    left = int(name in UNUSUAL)
    # As a body these two fail the whole batch, with OpenTelemetry's encoder as with ours.
    if name not in ("too large", "half a pair"):
        provider.get_logger("test").emit(body=VALUES[name], attributes={"plain": 1})
        left += name in UNUSUAL - {"no value"}
    check(LOG_RECORDS, encode_logs, exporter.get_finished_logs(), left=left)


@pytest.mark.parametrize("kind", SpanKind)
@pytest.mark.parametrize("status", StatusCode)
@pytest.mark.parametrize("description", [None, "it broke"])
@pytest.mark.parametrize("is_called", [True, False])
def test_span(kind: SpanKind, status: StatusCode, description: str | None, is_called: bool) -> None:
    """Kinds, parents of this and of another process, trace state, status."""
    spans = Spans(resource=Resource({"service.name": "shop", "n": 1}, "https://example.com/r"))
    parent = trace.set_span_in_context(NonRecordingSpan(CALLER), Context())
    root = spans.tracer.start_span("GET /", parent if is_called else Context(), kind)
    if status is not StatusCode.UNSET:
        root.set_status(status, description if status is StatusCode.ERROR else None)
    inner = spans.tracer.start_span("SELECT", trace.set_span_in_context(root), SpanKind.CLIENT)
    inner.end()
    root.end()
    check(SPANS, encode_spans, spans.made(), left=0)


def test_events_and_links_are_left_to_opentelemetry() -> None:
    """An exception, a link; the spans beside them are ours."""
    spans = Spans()
    failed = spans.tracer.start_span("failed")
    failed.record_exception(ValueError("no"))
    failed.end()
    spans.tracer.start_span("linked", links=[Link(CALLER, {"a": 1})]).end()
    spans.tracer.start_span("plain").end()
    check(SPANS, encode_spans, spans.made(), left=2)


def test_dropped_attributes() -> None:
    """Their number is said."""
    spans = Spans(span_limits=SpanLimits(max_span_attributes=2))
    spans.tracer.start_span("full", attributes={str(n): n for n in range(5)}).end()
    check(SPANS, encode_spans, spans.made(), left=0)


def test_resources_and_scopes_are_told_apart() -> None:
    """Every record stands in its own."""
    batch: list[Any] = []
    for service in ("shop", "bank"):
        spans = Spans(resource=Resource({"service.name": service}))
        other = spans.provider.get_tracer("other")
        for tracer in (spans.tracer, other, spans.tracer):
            tracer.start_span("work").end()
        batch += spans.made()
    check(SPANS, encode_spans, batch, left=0)


def test_log_record_with_all_there_is() -> None:
    """Severity, name, ids; and one with next to nothing."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("test", "1", "https://example.com/schema")
    logger.emit(
        timestamp=1,
        observed_timestamp=2,
        context=trace.set_span_in_context(NonRecordingSpan(CALLER), Context()),
        severity_number=SeverityNumber.WARN,
        severity_text="WARN",
        body={"not": "a text"},
        event_name="something",
    )
    logger.emit(
        timestamp=1,
        context=trace.set_span_in_context(NonRecordingSpan(CALLER), Context()),
        severity_number=SeverityNumber.UNSPECIFIED,
        severity_text="WARN",
        body="happened",
        attributes={"a": "b"},
        event_name="something",
    )
    logger.emit(LogRecord(context=Context()))
    check(LOG_RECORDS, encode_logs, exporter.get_finished_logs(), left=1)


def test_nothing_piles_up_when_names_resources_and_scopes_never_come_again() -> None:
    """What is kept of them has an end."""
    spans = Spans()
    for n in range(MOST_ENVELOPES * 2):
        tracer = spans.provider.get_tracer(f"scope {n}")
        names = range(n * 100, n * 100 + 100)
        tracer.start_span("work", attributes={f"name {name}": True for name in names}).end()
    encoder = BatchEncoder(SPANS, encode_spans)
    for span in spans.made():
        assert records_of(encoder([span]), SPANS) == records_of(encode_spans([span]), SPANS)
    from otel_canonical.otel import otlp_values

    assert len(encoder._envelopes) <= MOST_ENVELOPES + 1
    assert len(otlp_values._names) <= MOST_NAMES


def test_opentelemetry_encodes_when_it_writes_a_field_that_we_do_not_know(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A later version may: its own way is taken, and said once."""
    spans = Spans()
    for _ in range(3):
        spans.tracer.start_span("work").end()

    def encode_more(batch: Sequence[Any]) -> Any:
        request = encode_spans(batch)
        for of_resource in request.resource_spans:
            for span in of_resource.scope_spans[0].spans:
                span.dropped_links_count = 7
        return request

    encoder = BatchEncoder(SPANS, encode_more)
    for _ in range(2):
        request = encoder(spans.made())
        assert records_of(request, SPANS) == records_of(encode_more(spans.made()), SPANS)
    assert ["exports spans with fields" in text for text in caplog.messages] == [True]


@pytest.mark.parametrize("place", ["name", "no text", "status", "attribute", "event"])
def test_text_that_cannot_be_encoded_costs_no_other_span(place: str) -> None:
    """A lone surrogate anywhere, or a name that is no text: repaired, and all others as ever."""
    odd = "a\ud800b"
    spans = Spans()
    spans.tracer.start_span("before").end()
    name: Any = {"name": odd, "no text": 7}.get(place, "odd")
    span = spans.tracer.start_span(name, attributes={"x": odd if place == "attribute" else "y"})
    if place == "status":
        span.set_status(StatusCode.ERROR, odd)
    if place == "event":
        span.add_event(odd, {"x": odd})
    span.end()
    spans.tracer.start_span("after").end()
    for batch in (spans.made(), spans.made()[1:], spans.made()[1:2]):
        request = BatchEncoder(SPANS, encode_spans)(batch)
        found = [
            span
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]
        names = {"before": "before", odd: "a?b", 7: "7", "odd": "odd", "after": "after"}
        assert sorted(one.name for one in found) == sorted(names[one.name] for one in batch)
        # An attribute that can't be encoded is left out by OpenTelemetry itself.
        assert "\ud800" not in str(found)


def test_log_record_that_cannot_be_encoded_costs_no_other() -> None:
    """A lone surrogate in a body fails the whole batch with OpenTelemetry's encoder."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    for body in ("before", "a\ud800b", {"deep": 2**70}, "after"):
        provider.get_logger("test").emit(body=body, attributes={"x": "a\ud800"})
    request = BatchEncoder(LOG_RECORDS, encode_logs)(exporter.get_finished_logs())
    found = [
        record.body.string_value
        for of_resource in request.resource_logs
        for of_scope in of_resource.scope_logs
        for record in of_scope.log_records
    ]
    assert sorted(found) == ["a?b", "after", "before", "{'deep': 1180591620717411303424}"]


@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
def test_number_of_dropped_attributes_is_said_when_all_are() -> None:
    """A limit of 0 drops every attribute of a log record, and the count says so."""
    exporter = InMemoryLogRecordExporter()
    limits = LogRecordLimits(max_log_record_attributes=0)
    provider = LoggerProvider(shutdown_on_exit=False, log_record_limits=limits)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("test").emit(body="said", attributes={"a": 1, "b": 2})
    batch = exporter.get_finished_logs()
    check(LOG_RECORDS, encode_logs, batch, left=0)
    assert batch[0].dropped_attributes == 2


def test_other_threads_run_while_a_batch_is_encoded() -> None:
    """A request needn't wait for the end of a batch: here nothing but a pause gives the GIL away."""
    spans = Spans()
    for _ in range(100 * SLICE):
        spans.tracer.start_span("work").end()
    batch = spans.made()
    encoder = BatchEncoder(SPANS, encode_spans)
    encoder(batch)
    turns, is_running, is_done = 0, threading.Event(), threading.Event()

    def take_turns() -> None:
        nonlocal turns
        with open("/dev/zero", "rb") as file:
            while not is_done.is_set():
                os.pread(file.fileno(), 1, 0)  # gives the GIL away, and wants it again
                turns += 1
                is_running.set()

    thread = threading.Thread(target=take_turns)
    interval = sys.getswitchinterval()
    thread.start()
    try:
        assert is_running.wait(PATIENCE_S)
        sys.setswitchinterval(PATIENCE_S)
        before = turns
        encoder(batch)
        during = turns - before
    finally:
        sys.setswitchinterval(interval)
        is_done.set()
        thread.join()
    assert during >= 2
