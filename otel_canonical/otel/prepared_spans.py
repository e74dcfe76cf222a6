"""Spans that go straight to the exporters, where neither the SDK nor anybody else would add to them.

Lives in the worker. Most spans of an exported request are its root and those of its queries. One of the
SDK's costs far more than what it holds: the sampler is asked, attributes are copied and checked, each
processor is called twice, secrets are looked for. None of that changes a span below a sampled one, if the
sampler follows parents, only exporters listen, and no limit cuts attributes; nor a root that the sampler
has taken. `direct_way` finds out whether it is so, from the first span that the SDK has made. Otherwise,
and for a span that is more than a shape and an event, the SDK makes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, Tracer
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import Span, SpanContext, SpanKind
from opentelemetry.util.types import AttributeValue

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.otel.encoded_ahead import EncodeAhead
from otel_canonical.otel.event_attributes import EventAttributes
from otel_canonical.otel.exporter_internals import emit_of
from otel_canonical.otel.sdk_internals import attribute_limit_of, cuts_attributes

if TYPE_CHECKING:
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_EXPORTING = frozenset((BatchSpanProcessor, SimpleSpanProcessor))


@dataclass(slots=True)
class Shape:
    """What spans have in common that differ in ids and times only."""

    name: str
    kind: SpanKind
    #: Without secrets.
    attributes: Mapping[str, AttributeValue]
    #: With them, for the SDK: what it makes is redacted when it is exported.
    raw: Mapping[str, AttributeValue]
    #: Its encoding, see `otlp_wire`.
    encoded: bytes = b""


class PreparedSpan(ReadableSpan):
    """An ended span without events, links and errors, made of a shape and, if it is a root, an event."""

    shape: Shape
    event: CanonicalEvent | None = None


class PendingSpan:
    """A span that isn't made before it ends.

    Args:
        way: where it will go.
        shape: what it will say.
        context: OpenTelemetry's context when it started.
        parent: its current span.
        open_spans: those of its request; who takes it out of there ends it.
    """

    __slots__ = ("_context", "_open_spans", "_parent", "_shape", "_started_ns", "_way")

    def __init__(
        self,
        way: DirectWay,
        shape: Shape,
        context: Context,
        parent: SpanContext,
        open_spans: dict[int, object],
    ) -> None:
        self._way = way
        self._shape = shape
        self._context = context
        self._parent = parent
        self._open_spans = open_spans
        open_spans[id(self)] = self
        self._started_ns = time.time_ns()

    def end(self) -> None:
        """Make it and hand it to the exporters."""
        if self._open_spans.pop(id(self), None) is None:
            return
        self._way.export(self._shape, self._parent, self._started_ns)

    def made(self) -> Span:
        """Have the SDK make it, because it needs an error or an event; the caller ends it."""
        if self._open_spans.pop(id(self), None) is None:
            return trace.INVALID_SPAN
        shape = self._shape
        return self._way.tracer.start_span(
            *(shape.name, self._context, shape.kind, shape.raw), start_time=self._started_ns
        )


class DirectWay:
    """The way to the exporters.

    Args:
        tracer: the tracer that would make the spans.
        scope: its instrumentation scope.
        exporters: the processors that export.
        most_attributes: how many attributes a span may have; None if there is no limit.
        ahead: encodes spans for `exporters`; None if one of these needs them as they are.
    """

    def __init__(
        self,
        tracer: Tracer,
        scope: InstrumentationScope,
        exporters: Sequence[SpanProcessor],
        most_attributes: int | None,
        ahead: EncodeAhead | None,
    ) -> None:
        self.tracer = tracer
        self.most_attributes = most_attributes
        self._scope = scope
        self._ahead = ahead
        self._emits: list[Callable[[Any], object]] = [exporter.on_end for exporter in exporters]
        if ahead is not None:
            # Into their queues: `on_end` looks for a span's ids.
            self._emits = [emit_of(exporter) or exporter.on_end for exporter in exporters]

    def export(self, shape: Shape, parent: SpanContext, started_ns: int) -> None:
        """Export a span that ends now, below a sampled one of this process."""
        tracer = self.tracer
        ids = SpanContext(
            parent.trace_id,
            tracer.id_generator.generate_span_id(),
            False,
            parent.trace_flags,
            parent.trace_state,
        )
        span = PreparedSpan(
            shape.name,
            ids,
            parent,
            tracer.resource,
            shape.attributes,
            kind=shape.kind,
            start_time=started_ns,
            end_time=time.time_ns(),
            instrumentation_scope=self._scope,
        )
        span.shape = shape
        self._emit(span)

    def export_root(
        self,
        shape: Shape,
        event: CanonicalEvent,
        ids: SpanContext,
        parent: SpanContext | None,
        times: tuple[int, int],
    ) -> PreparedSpan:
        """Export a sampled root, with its event as attributes; return what was exported.

        Args:
            shape: what it says beside its event.
            event: the event of its request.
            ids: its ids.
            parent: the caller's span.
            times: when it started and ended.
        """
        span = PreparedSpan(
            shape.name,
            ids,
            parent,
            self.tracer.resource,
            EventAttributes(event, shape.attributes),
            kind=shape.kind,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=self._scope,
        )
        span.shape = shape
        span.event = event
        self._emit(span)
        return span

    def _emit(self, span: PreparedSpan) -> None:
        waiting = span if self._ahead is None else self._ahead(span)
        for emit in self._emits:
            emit(waiting)


def direct_way(
    tracer: Tracer,
    processors: Sequence[SpanProcessor],
    not_concerned: frozenset[type[SpanProcessor]],
    first: SdkSpan,
    find_encoding: Callable[[Sequence[object]], EncodeAhead | None],
) -> DirectWay | None:
    """Return the way past the SDK, None if a processor or a limit would change the spans.

    Args:
        tracer: makes the spans; its sampler is known to take them as they are.
        processors: the tracer's span processors.
        not_concerned: processors that do nothing with such spans.
        first: a span of this tracer.
        find_encoding: see `otlp_encoder.encoding_ahead`.
    """
    exporters = [processor for processor in processors if type(processor) in _EXPORTING]
    others = {type(processor) for processor in processors} - _EXPORTING
    scope = first.instrumentation_scope
    if scope is None or not exporters or others - not_concerned or cuts_attributes(first):
        return None
    return DirectWay(tracer, scope, exporters, attribute_limit_of(first), find_encoding(exporters))


def made(span: Span | PendingSpan) -> Span:
    """Return the SDK's span of one that may be pending."""
    return span.made() if isinstance(span, PendingSpan) else span
