"""The event is written to the root span on the current SDK and on its next version."""

from __future__ import annotations

import pytest
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_canonical.event.event import CanonicalEvent, EventType
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
    scope.root.finish(event, scope, {})
    scope.root.detach()
    [span] = exporter.get_finished_spans()
    assert span.attributes is not None
    assert (span.attributes["http.route"], span.attributes["app.plan"]) == ("ok/", "pro")
    assert ("other.late" in span.attributes) == can_write_while_ending
    assert (span.name, span.start_time) == ("GET ok/", scope.started_wall_ns)
    assert span.end_time == scope.started_wall_ns + 5_000_000
