"""Which client spans `CallCounter` doesn't count: those of Django's queries, counted by `django.queries`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span, Tracer

#: The instrumentation scope of spans that are our own.
OURS = "otel_canonical"

#: In the parent context of a span that a driver's instrumentation makes of such a query.
UNCOUNTED_KEY = otel_context.create_key("otel-canonical-uncounted")


def is_ours(span: ReadableSpan) -> bool:
    """Return whether a span was made by us."""
    made_by = span.instrumentation_scope
    return made_by is not None and made_by.name == OURS


class UncountedTracer(Tracer):
    """Makes another tracer's spans, with the mark."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start_span(
        self, name: str, context: Context | None = None, *args: Any, **kwargs: Any
    ) -> Span:
        """Start a span with the mark."""
        marked = otel_context.set_value(UNCOUNTED_KEY, True, context)
        return self._tracer.start_span(name, marked, *args, **kwargs)

    def start_as_current_span(  # type: ignore[override]  # upstream's decorator can be awaited, too
        self, name: str, context: Context | None = None, *args: Any, **kwargs: Any
    ) -> AbstractContextManager[Span]:
        """Start a span with the mark and make it the current one of the block."""
        marked = otel_context.set_value(UNCOUNTED_KEY, True, context)
        return self._tracer.start_as_current_span(name, marked, *args, **kwargs)
