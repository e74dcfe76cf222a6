"""The root of a request that isn't recorded: ids and a place in the context, and no span of its own."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, TraceFlags, TraceState

from otel_canonical.otel.root_span import SCOPE_KEY, SPAN_KEY, OtelRoot, attach
from otel_canonical.otel.sdk_internals import LazyContextSpan
from otel_canonical.pool.slots import UNEXPORTED
from otel_canonical.request.scope import RequestScope


class UnexportedRoot(OtelRoot, LazyContextSpan):
    """The root of a request that isn't recorded: ids. It is also its own span, which saves an object."""

    trace_state: TraceState | None = None

    def __init__(
        self,
        trace_id: str,
        span_id: str,
        caller: SpanContext | None,
        trace_state: TraceState | None = None,
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        if caller is not None:
            self.caller = caller
        if trace_state is not None:
            self.trace_state = trace_state

    @property
    def span(self) -> Span:  # type: ignore[override]
        """This object."""
        return self

    def get_span_context(self) -> SpanContext:
        """Return the ids as OpenTelemetry's type."""
        flags = TraceFlags.RANDOM_TRACE_ID
        if self.caller is not None:
            flags &= self.caller.trace_flags
        return SpanContext(
            int(self.trace_id, 16),
            int(self.span_id, 16),
            is_remote=False,
            trace_flags=TraceFlags(flags),
            trace_state=self.trace_state,
        )


class UnnamedRoot(UnexportedRoot):
    """The root of a request without a caller, where nothing is exported: its ids name nothing.

    Args:
        digits: 16 of the span, then 32 of the trace. They are divided for those who ask.
    """

    def __init__(self, digits: str) -> None:
        self._digits = digits
        # Of the object, not of the class: every request reads them, which is faster so.
        self.is_named = self.is_recorded = False
        self.mark = UNEXPORTED

    @property
    def trace_id(self) -> str:  # type: ignore[override]
        """32 hex digits."""
        return self._digits[16:48]

    @property
    def span_id(self) -> str:  # type: ignore[override]
        """16 hex digits."""
        return self._digits[:16]

    def attach(self, parent: Context | None, scope: RequestScope) -> None:
        """Make the span and the scope current in this thread, greenlet or task."""
        if parent:
            super().attach(parent, scope)
        else:
            # As above, without a look at the span: it is this object.
            self._token = attach(Context({SCOPE_KEY: scope, SPAN_KEY: self}))
