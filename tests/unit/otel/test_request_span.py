"""A root that the SDK makes only when somebody looks is, for everybody, the one that the SDK makes at once."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    DEFAULT_ON,
    Decision,
    Sampler,
    SamplingResult,
    StaticSampler,
)
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.event.rows import HEAD, LOOSE
from otel_canonical.otel import driver_instrumentations, otlp_encoder, sdk
from otel_canonical.otel.driver_instrumentations import Treatment
from otel_canonical.otel.otlp_encoder import SPANS, BatchEncoder
from otel_canonical.otel.prepared_spans import PreparedSpan
from otel_canonical.otel.request_span import RequestSpan
from otel_canonical.otel.root_span import RootSpan
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings

STARTED_NS = 1_700_000_000_000_000_000
CALLED = {"TRACEPARENT": f"00-{7:032x}-{8:016x}-03", "TRACESTATE": "vendor=a"}
OTHER = SpanContext(1, 2, False, TraceFlags(1))


class Worker:
    """What a worker has that exports its spans."""

    def __init__(self, sampler: Sampler = DEFAULT_ON, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler, shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(trace, "get_tracer_provider", lambda: self.provider)
            patched.setattr(driver_instrumentations, "_treatment", [Treatment.KEEP])
            self.roots = sdk.connect(Settings(), exports=True, redaction=RedactionPolicy())
        self.run()  # the first root is the SDK's

    def open(self, **headers: str) -> RequestScope:
        """Open a request."""
        scope = RequestScope("GET", "/ok/", headers)
        scope.started_wall_ns = STARTED_NS
        self.roots.open(scope, "1" * 16 + "2" * 32, is_called=bool(headers)).detach()
        return scope

    def close(self, scope: RequestScope, *pairs: Any, status: int = 200) -> list[ReadableSpan]:
        """End a request; return what was exported since the last one."""
        scope.route, scope.status, scope.ended_ns = "ok/", status, scope.started_ns + 5_000_000
        head = (HEAD, ("", "request", "GET", "/ok/", status, 5_000_000))
        event = CanonicalEvent(EventType.REQUEST, [head, (LOOSE, pairs)])
        scope.root.finish(event, scope, lambda _: {"url.full": "[redacted]"})
        found = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return found

    def run(self, use: Callable[[Any], object] = id, *pairs: Any, **headers: str) -> ReadableSpan:
        """Serve a request that does something with its root; return what was exported."""
        scope = self.open(**headers)
        use(span_of(scope))
        [exported] = self.close(scope, *pairs)
        return exported


def span_of(scope: RequestScope) -> Any:
    """Return the root span that the app sees."""
    assert isinstance(scope.root, RootSpan)
    return scope.root.span


def watched() -> Worker:
    """Return a worker whose roots the SDK makes at once."""
    worker = Worker()
    worker.provider.add_span_processor(SpanProcessor())
    return worker


def encoded(span: ReadableSpan) -> Any:
    """Return OpenTelemetry's encoding of a span, its attributes in an order that doesn't matter."""
    request = encode_spans([span])
    request.resource_spans[0].scope_spans[0].spans[0].attributes.sort(key=lambda one: one.key)
    return request


@pytest.mark.parametrize(
    "headers",
    [
        {},
        CALLED,
        {**CALLED, "TRACEPARENT": f"00-{7:032x}-{8:016x}-01"},
        {"HOST": "shop:8000", "USER-AGENT": "Googlebot/2.1"},
        {"HOST": "shop"},
    ],
)
def test_root_that_nobody_looks_at_is_the_same_as_the_sdks(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids, flags, parent, resource, scope, name, kind, times, attributes, status."""
    pairs = [("app_plan", "pro"), ("db_queries", 3), ("req_host", "shop"), ("resp_ttfb", 0.25)]
    light, of_sdk = (one.run(id, *pairs, **headers) for one in (Worker(), watched()))
    assert (type(light), type(of_sdk)) == (PreparedSpan, ReadableSpan)
    assert encoded(light) == encoded(of_sdk)
    assert light.context == of_sdk.context
    # As the first of its scope, it is held against OpenTelemetry's own encoding, and is the same in order.
    monkeypatch.setattr(otlp_encoder, "warn", pytest.fail)
    assert BatchEncoder(SPANS, encode_spans)([light]) == encode_spans([light])


USES: dict[str, Callable[[Any], object]] = {
    "attribute": lambda span: span.set_attribute("own", 1),
    "attributes": lambda span: span.set_attributes({"own": "a", "http.route": "mine", "b": [1]}),
    "event": lambda span: span.add_event("cached", {"hit": True}, STARTED_NS + 1),
    "exception": lambda span: span.record_exception(ValueError("password=hunter2"), None, 1),
    "link": lambda span: span.add_link(OTHER, {"why": "retry"}),
    "name": lambda span: span.update_name("own name"),
    "ok": lambda span: span.set_status(Status(StatusCode.OK)),
    "ok stays": lambda span: [span.set_status(code) for code in (StatusCode.OK, StatusCode.ERROR)],
    "error": lambda span: span.set_status(StatusCode.ERROR, "in vain"),
    "end": lambda span: span.end(),
    "end and more": lambda span: [span.end(), span.set_attribute("own", 1)],
    "block": lambda span: span.__exit__(None, None, None),
    "failed block": lambda span: span.__exit__(ValueError, ValueError("a"), None),
    "reading": lambda span: span.attributes,
    "reading a private name": lambda span: span._attributes,
}


@pytest.mark.parametrize("use", USES)
def test_what_the_app_does_with_its_root_is_exported(use: str) -> None:
    """As where the SDK has made the root at once, with the event, and once."""
    spans = [one.run(USES[use], ("app_plan", "pro")) for one in (Worker(), watched())]
    for span in spans:
        assert span.attributes is not None
        assert (span.attributes["app.plan"], span.name) == ("pro", "GET ok/")
        assert "hunter2" not in span.to_json()
    light, of_sdk = spans
    assert shown(light) == shown(of_sdk)


def shown(span: ReadableSpan) -> Any:
    """Return what a span says, without the times of its events."""
    found = json.loads(span.to_json())
    for event in found["events"]:
        event["timestamp"] = ""
    return found


READS: dict[str, Callable[[Any], Any]] = {
    "context": lambda span: span.get_span_context(),
    "property context": lambda span: span.context,
    "name": lambda span: span.name,
    "kind": lambda span: span.kind,
    "parent": lambda span: span.parent,
    "start": lambda span: span.start_time,
    "end": lambda span: span.end_time,
    "status": lambda span: span.status.status_code,
    "attributes": lambda span: dict(span.attributes),
    "dropped": lambda span: (span.dropped_attributes, span.dropped_events, span.dropped_links),
    "events and links": lambda span: (span.events, span.links),
    "scope": lambda span: span.instrumentation_scope,
    "resource": lambda span: span.resource.attributes["telemetry.sdk.name"],
    "recording": lambda span: span.is_recording(),
    "json": lambda span: shown(span),
    "types": lambda span: [isinstance(span, kind) for kind in (trace.Span, SdkSpan, ReadableSpan)],
    "unknown name": lambda span: (hasattr(span, "no_such"), getattr(span, "no_such", 3)),
    "in a context": lambda span: (
        trace.get_current_span(trace.set_span_in_context(span, Context())) is span
    ),
    "text": lambda span: str(span).partition("(")[2],
    "copy": lambda span: copy.copy(span).name,
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("headers", [{}, CALLED], ids=["", "called"])
def test_root_reads_the_same(read: str, headers: dict[str, str]) -> None:
    """While its request runs, after it has ended, and again."""
    found = []
    for worker in (Worker(), watched()):
        scope = worker.open(**headers)
        before = READS[read](span_of(scope))
        worker.close(scope)
        read_late = worker.open(**headers)
        worker.close(read_late)
        late = span_of(read_late)
        found.append((before, READS[read](span_of(scope)), READS[read](late), READS[read](late)))
        assert worker.exporter.get_finished_spans() == ()
    light, of_sdk = found
    assert light == of_sdk


def test_what_comes_after_the_request_is_not_exported(caplog: pytest.LogCaptureFixture) -> None:
    """A thread of the app's that outlives the request changes nothing; the SDK says so."""
    worker = Worker()
    scope = worker.open()
    [exported] = worker.close(scope)
    span = span_of(scope)
    span.set_attribute("late", True)
    span.end()
    assert "Setting attribute on ended span." in caplog.text
    assert "late" not in (exported.attributes or {})
    assert "late" not in span.attributes
    assert not span.is_recording()
    assert worker.exporter.get_finished_spans() == ()


def test_root_is_made_once_when_threads_look_together() -> None:
    """Each of them sets an attribute; none is lost."""
    worker = Worker()
    for _ in range(20):
        scope = worker.open()
        span, barrier = span_of(scope), threading.Barrier(8)

        def look(number: int, span: Any = span, barrier: Any = barrier) -> None:
            barrier.wait()
            span.set_attribute(f"own.{number}", number)

        threads = [threading.Thread(target=look, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [exported] = worker.close(scope)
        assert {f"own.{number}" for number in range(8)} <= set(exported.attributes or {})


def test_error_has_its_status_and_exception() -> None:
    """A 5xx has a span of the SDK's."""
    worker = Worker()
    pairs = [("exc_type", "ValueError"), ("exc_msg", "no such thing")]
    [exported] = worker.close(worker.open(), *pairs, status=500)
    assert exported.status.status_code is StatusCode.ERROR
    assert [event.name for event in exported.events] == ["exception"]
    assert (exported.attributes or {})["error.type"] == "500"


def test_processor_of_the_user_sees_roots_start_and_end() -> None:
    """Also one that is added after the first request; what it sets is exported."""
    seen: list[str] = []

    class Watches(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append(f"start {span.attributes['url.path']}")
            span.set_attribute("watched", True)

        def on_end(self, span: Any) -> None:
            seen.append(f"end {span.attributes['app.plan']}")

    worker = Worker()
    assert "watched" not in (worker.run().attributes or {})
    worker.provider.add_span_processor(Watches())
    for _ in range(2):
        assert worker.run(id, ("app_plan", "pro")).attributes["watched"] is True  # type: ignore[index]
    assert seen == ["start /ok/", "end pro"] * 2


class _Enriches(StaticSampler):
    """A sampler of the user's."""

    def __init__(self) -> None:
        super().__init__(Decision.RECORD_AND_SAMPLE)
        self.asked = 0

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.asked += 1
        found = super().should_sample(*args, **kwargs)
        return SamplingResult(found.decision, {**(found.attributes or {}), "sampled.by": "me"})


def test_sampler_of_the_user_is_asked_once() -> None:
    """Its attributes are on each root."""
    sampler = _Enriches()
    worker = Worker(sampler)
    for _ in range(3):
        assert worker.run().attributes["sampled.by"] == "me"  # type: ignore[index]
    assert sampler.asked == 4


@pytest.mark.parametrize(
    "limits",
    [SpanLimits(max_span_attributes=5), SpanLimits(max_span_attribute_length=2)],
)
def test_limits_of_spans_are_obeyed(limits: SpanLimits) -> None:
    """Fewer attributes, and shorter ones."""
    worker = Worker(span_limits=limits)
    found = worker.run(id, ("app_plan", "pro"), ("app_items", 3), ("app_a", 1))
    assert len(found.attributes or {}) == 5 or (found.attributes or {})["app.plan"] == "pr"
    assert type(found) is not PreparedSpan


def test_event_beyond_the_limit_loses_its_least_important_attributes() -> None:
    """Where an event is larger than most, the SDK makes its span."""
    worker = Worker(span_limits=SpanLimits(max_span_attributes=40))
    assert type(worker.run()) is PreparedSpan
    found = worker.run(id, *[(f"app_{number}", number) for number in range(60)])
    assert len(found.attributes or {}) == 40
    assert (found.attributes or {})["http.response.status_code"] == 200


def test_ids_of_the_user_are_used() -> None:
    """A generator of the user's makes the ids of roots."""

    class Ids(RandomIdGenerator):
        def generate_span_id(self) -> int:
            return 77

    worker = Worker(id_generator=Ids())
    for _ in range(2):
        assert worker.run().context.span_id == 77


def test_metrics_of_the_sdk_count_each_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are on, the SDK makes all roots."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    assert type(Worker().run()) is not PreparedSpan


def test_processor_of_a_running_request_sees_its_root() -> None:
    """The state of a root that a processor has seen is that of the app's."""
    held: list[Any] = []

    class Holds(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            held.append(span)

    worker = Worker()
    worker.provider.add_span_processor(Holds())
    scope = worker.open()
    held[0].set_status(StatusCode.ERROR, "seen by a processor")
    assert isinstance(span_of(scope), RequestSpan)
    assert span_of(scope).status.description == "seen by a processor"
    [exported] = worker.close(scope)
    assert exported.status.description == "seen by a processor"
