"""The event is written to the root span on the current SDK and on its next version."""

from __future__ import annotations

import pytest
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.otel.root_attributes import sampling_attributes
from otel_canonical.otel.root_factory import Recording, RootFactory
from otel_canonical.request.scope import RequestScope


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
    scope.root.finish(event, scope, lambda _: {})
    scope.root.detach()
    [span] = exporter.get_finished_spans()
    assert span.attributes is not None
    assert (span.attributes["http.route"], span.attributes["app.plan"]) == ("ok/", "pro")
    assert ("other.late" in span.attributes) == can_write_while_ending
    assert (span.name, span.start_time) == ("GET ok/", scope.started_wall_ns)
    assert span.end_time == scope.started_wall_ns + 5_000_000


def test_full_span_loses_least_important_attributes() -> None:
    """Under a limit the app's facts go first, identity and outcome last; the SDK counts what went."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_span_attributes=4))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    scope = RequestScope("GET", "/ok/", {})
    RootFactory(Recording(provider.get_tracer("test")), str).open(scope, "0" * 48)
    scope.status = 200
    pairs = [
        *(("event_type", "request"), ("req_id", "a"), ("req_method", "GET"), ("req_route", "ok/")),
        *(("resp_status", 200), ("db_queries", 3), ("app_plan", "pro"), ("app_items", 3)),
    ]
    scope.root.finish(CanonicalEvent.of_pairs(EventType.REQUEST, pairs), scope, lambda _: {})
    scope.root.detach()
    [span] = exporter.get_finished_spans()
    assert set(span.attributes or {}) == {
        *("canonical.event_type", "http.request.id", "http.request.method"),
        "http.response.status_code",
    }
    # The path, four of the event's, and the method, which made room before it came again.
    assert span.dropped_attributes == 6


@pytest.mark.parametrize(
    ("rate", "rule", "represented"),
    [
        *(
            (1.0, None, 1),
            (0.1, None, 10),
            (0.01, None, 100),
            (1 / 3, None, 3),
            (0.001, None, 1000),
        ),
        *((0.3, None, None), (0.0, None, None), (None, None, None), (0.01, "error", 1)),
    ],
)
def test_sample_rate_is_an_integer_for_honeycomb(
    rate: float | None, rule: str | None, represented: int | None
) -> None:
    """How many requests a root stands for, where that is a whole number."""
    attributes = sampling_attributes(rate, rule)
    assert attributes.get("SampleRate") == represented
    assert attributes.get("canonical.sample_rate") == (1.0 if rule else rate)
