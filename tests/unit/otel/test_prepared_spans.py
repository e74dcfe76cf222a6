"""Spans of queries go past the SDK only where the exported span is the same, or the SDK makes them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, TraceState

from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.otel import driver_instrumentations, query_spans, sdk
from otel_canonical.otel.call_counter import CallCounter
from otel_canonical.otel.driver_instrumentations import Treatment
from otel_canonical.otel.otlp_encoder import SPANS, BatchEncoder
from otel_canonical.otel.prepared_spans import PendingSpan, PreparedSpan, made
from otel_canonical.otel.query_spans import ConnectionFacts, Failure, Server
from otel_canonical.otel.redacted_spans import RedactedSpans
from otel_canonical.otel.root_span import end_open_spans
from otel_canonical.otel.sampler import CountingSampler
from otel_canonical.otel.sdk import way_of_query_spans
from otel_canonical.otel.tail_sampling import TailSampling
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings

SQL = "SELECT * FROM shop WHERE name = 'hunter2' AND id = %s LIMIT 1"


class Worker:
    """What a worker has that exports its spans, and one request in it."""

    def __init__(self, sampler: Sampler = DEFAULT_ON, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        counting = CountingSampler(sampler)
        self.provider = TracerProvider(sampler=counting, shutdown_on_exit=False, **options)
        redacted = RedactedSpans(RedactionPolicy())
        exporting = SimpleSpanProcessor(self._exporter)
        redacted.watch(exporting)
        self.provider.add_span_processor(exporting)
        self.provider.add_span_processor(CallCounter())
        self.provider.add_span_processor(TailSampling(tuple))
        self.scope = RequestScope("GET", "/", {})
        self.root = self.provider.get_tracer("app").start_span("GET")
        query_spans.make_with(
            self.provider.get_tracer("otel_canonical"),
            *(str.upper, redacted.attributes),
            functools.partial(way_of_query_spans, self.provider, counting),
        )
        self.facts = query_spans.facts_of(Server("postgresql", "site", "me", "db.internal", 5432))

    def start(self, text: str = SQL, parent: trace.Span | None = None) -> Any:
        """Start the span of a query below the root, or below another span."""
        token = attach(trace.set_span_in_context(parent or self.root, Context()))
        try:
            return query_spans.start(self.facts, text, self.scope)
        finally:
            detach(token)

    def run(self, text: str = SQL, parent: trace.Span | None = None) -> ReadableSpan:
        """Make the span of a query; return what was exported."""
        self.start(text, parent).end()
        return self.exported()

    def exported(self) -> ReadableSpan:
        """Return the one span that was exported since it was last asked."""
        [span] = self._exporter.get_finished_spans()
        self._exporter.clear()
        return span


@pytest.fixture(autouse=True)
def _no_maker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no tracer behind; opt into the stable names."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "database,http")
    monkeypatch.setattr(query_spans, "_maker", query_spans._Maker())
    yield
    query_spans._facts.clear()


def shown(span: ReadableSpan) -> Any:
    """Return OpenTelemetry's encoding of a span, without its id and times."""
    [of_resource] = encode_spans([span]).resource_spans
    encoded = of_resource.scope_spans[0].spans[0]
    encoded.span_id, encoded.start_time_unix_nano, encoded.end_time_unix_nano = b"", 0, 0
    return of_resource


@pytest.mark.parametrize("sampler", [DEFAULT_ON, ALWAYS_ON, ParentBasedTraceIdRatio(1.0)])
@pytest.mark.parametrize("conventions", ["database,http", "", "database/dup,http/dup"])
def test_prepared_span_is_the_same_as_the_sdks(
    sampler: Sampler, conventions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resource, scope, parent, name, kind, attributes; the statement is redacted in both."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", conventions)
    worker = Worker(sampler)
    of_sdk, prepared, again = worker.run(), worker.run(), worker.run()
    assert (type(of_sdk) is PreparedSpan, type(prepared), type(again)) == (
        *(False, PreparedSpan, PreparedSpan),
    )
    assert shown(of_sdk) == shown(prepared) == shown(again)
    assert "hunter2" not in str(prepared.to_json())
    assert of_sdk.to_json().count("\n") == prepared.to_json().count("\n")
    assert prepared.context.span_id != again.context.span_id
    assert of_sdk.end_time <= prepared.start_time <= prepared.end_time <= again.start_time  # type: ignore[operator]


def test_prepared_span_is_encoded_as_by_opentelemetry() -> None:
    """With a trace state and without one; a shape's first span, and its second."""
    worker = Worker()
    encode = BatchEncoder(SPANS, encode_spans)
    caller = SpanContext(7, 8, False, TraceFlags(1), TraceState([("vendor", "a"), ("b", "c=d")]))
    for parent in (None, NonRecordingSpan(caller), None):
        worker.run(parent=parent)
        span = worker.run(parent=parent)
        assert type(span) is PreparedSpan
        assert encode([span]) == encode_spans([span])
    assert not [known for known in encode._envelopes.values() if known.parts is None]


class _Enriches(StaticSampler):
    """A sampler of the user's that looks like the SDK's."""

    def __init__(self) -> None:
        super().__init__(ALWAYS_ON.should_sample(None, 1, "").decision)

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        found = super().should_sample(*args, **kwargs)
        return SamplingResult(found.decision, {**(found.attributes or {}), "sampled.by": "me"})


@pytest.mark.parametrize(
    "sampler", [_Enriches(), ParentBased(ALWAYS_ON, local_parent_sampled=_Enriches())]
)
def test_sampler_of_the_user_is_asked(sampler: Sampler) -> None:
    """Its attributes are on each span."""
    worker = Worker(sampler)
    for _ in range(3):
        assert worker.run().attributes["sampled.by"] == "me"  # type: ignore[index]


@pytest.mark.parametrize("sampler", [TraceIdRatioBased(1.0), ParentBased(TraceIdRatioBased(1.0))])
def test_sampler_by_ratio_is_obeyed(sampler: Sampler) -> None:
    """Below a parent of the trace, and below one that it didn't take."""
    worker = Worker(sampler)
    assert worker.run().parent == worker.root.get_span_context()
    dropped = NonRecordingSpan(SpanContext(7, 8, False, TraceFlags(0)))
    worker.start(parent=dropped)
    assert worker.run().parent == worker.root.get_span_context()


def test_processor_of_the_user_sees_spans_start_and_end() -> None:
    """Also one that is added after the first query."""
    seen: list[str] = []

    class Watches(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append(f"start {span.attributes['db.query.text']}")
            span.set_attribute("watched", True)

        def on_end(self, span: Any) -> None:
            seen.append(f"end {span.name}")

    worker = Worker()
    worker.run()
    assert type(worker.run()) is PreparedSpan
    worker.provider.add_span_processor(Watches())
    query_spans.look_again()
    for _ in range(2):
        assert worker.run("SELECT 1").attributes["watched"] is True  # type: ignore[index]
    assert seen == ["start SELECT 1", "end SELECT"] * 2


def test_processor_that_the_app_adds_later_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """`connect` has patched the provider's own method."""
    worker = Worker()
    worker.provider.sampler = DEFAULT_ON  # as a worker finds it
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: worker.provider)
    monkeypatch.setattr(driver_instrumentations, "_treatment", [Treatment.KEEP])
    sdk.connect(Settings(), exports=True, redaction=RedactionPolicy())
    worker.run()
    assert type(worker.run()) is PreparedSpan
    worker.provider.add_span_processor(SpanProcessor())
    assert [type(worker.run()) is PreparedSpan for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    ("limits", "attributes"),
    [
        (SpanLimits(max_span_attributes=1), {"db.operation.name": "SELECT"}),
        (SpanLimits(max_span_attributes=0), {}),
        (SpanLimits(max_span_attribute_length=2), None),
        (SpanLimits(max_attribute_length=2), None),
    ],
)
def test_limits_of_spans_are_obeyed(
    limits: SpanLimits, attributes: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer attributes, and shorter ones."""
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "database")
    worker = Worker(span_limits=limits)
    for _ in range(2):
        found = dict(worker.run().attributes or {})
        if attributes is None:
            assert found["db.operation.name"] == "SE"
        else:
            assert found == attributes


def test_metrics_of_the_sdk_count_each_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are on, the SDK makes all spans."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    worker = Worker()
    assert not [span for span in (worker.run(), worker.run()) if type(span) is PreparedSpan]


def test_unsampled_and_remote_parents_are_left_to_the_sampler() -> None:
    """A prepared span is always sampled, and its parent is of this process."""
    worker = Worker(ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF))
    worker.run()
    for ids in (
        SpanContext(7, 8, False, TraceFlags(0)),
        SpanContext(7, 8, True, TraceFlags(1)),
    ):
        assert not isinstance(worker.start(parent=NonRecordingSpan(ids)), PendingSpan)
    assert isinstance(worker.start(), PendingSpan)


def test_failed_query_has_a_span_of_the_sdks() -> None:
    """With status, event and the time at which the query started."""
    worker = Worker()
    worker.run()
    pending = worker.start()
    span = made(pending)
    query_spans.fail(span, Failure(ValueError("no such table"), "42P01"))
    span.end()
    pending.end()
    exported = worker.exported()
    assert exported.status.status_code is StatusCode.ERROR
    assert exported.attributes["db.response.status_code"] == "42P01"  # type: ignore[index]
    assert [event.name for event in exported.events] == ["exception"]
    assert "hunter2" not in exported.to_json()
    assert not worker.scope.open_spans


def test_query_of_an_aborted_request_has_a_span() -> None:
    """The watchdog ends it; the query that returns afterwards adds nothing."""
    worker = Worker()
    worker.run()
    pending = worker.start()
    end_open_spans({1: worker.scope})
    exported = worker.exported()
    assert (exported.name, exported.status.description) == ("SELECT", "the worker was aborted")
    assert exported.end_time > exported.start_time  # type: ignore[operator]
    pending.end()
    made(pending).end()
    worker.run()


def test_what_is_remembered_is_bounded() -> None:
    """Statements and servers that never come again take no more memory."""
    worker = Worker()
    for number in range(query_spans.MOST_STATEMENTS + 10):
        worker.run(f"SELECT a{number}")
    assert len(worker.facts.shapes) <= query_spans.MOST_STATEMENTS
    long = "SELECT " + "a, " * 1000 + "b"
    assert worker.run(long).name == "SELECT"
    assert long not in worker.facts.shapes
    facts: ConnectionFacts | None = None
    for number in range(query_spans.MOST_SERVERS + 10):
        facts = query_spans.facts_of(Server("sqlite", f"file{number}"))
    assert facts is query_spans.facts_of(Server("sqlite", f"file{number}"))
    assert len(query_spans._facts) <= query_spans.MOST_SERVERS
