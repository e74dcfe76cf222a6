"""A request's root in OpenTelemetry: its ids, its place in the context and, if recorded, its server span.

A request that isn't recorded costs no span: it has ids and a context. A recorded one gets its event
written onto the span, which then ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    StatusCode,
)
from opentelemetry.util.types import AttributeValue

from otel_canonical.event.event import (
    FIRST_SERVER_ERROR,
    CanonicalEvent,
    EventType,
    least_important_first,
)
from otel_canonical.event.fields import ERROR_STACK_ATTRIBUTE
from otel_canonical.event.http_conventions import METHODS
from otel_canonical.otel.prepared_spans import DirectWay, PendingSpan
from otel_canonical.otel.request_span import RequestSpan
from otel_canonical.otel.root_attributes import (
    MOST_BESIDE,
    beside_event,
    port_and_agent,
    sampling_attributes,
    shape_of,
)
from otel_canonical.otel.sdk_internals import (
    attribute_limit_of,
    context_variable,
    span_key,
)
from otel_canonical.pool.slots import UNEXPORTED
from otel_canonical.request.scope import RequestScope

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_canonical.request.root import Replaced

#: The scope stands in OpenTelemetry's context, too: code that carries that into a thread carries both.
SCOPE_KEY = otel_context.create_key("otel-canonical-scope")

SPAN_KEY = span_key()

_context = context_variable()
attach = otel_context.attach if _context is None else _context.set
_detach = otel_context.detach if _context is None else _context.reset

#: The attributes of a span's event `exception` (semantic conventions, "Exceptions").
EXCEPTION = ("exception.type", "exception.message", ERROR_STACK_ATTRIBUTE)


class OtelRoot:
    """What the roots of recorded and of other requests have in common; see `request.root.Root`."""

    span: Span
    trace_id: str
    span_id: str
    is_exported: bool = False
    #: The incoming trace context.
    caller: SpanContext | None = None
    #: Whether Django's instrumentation has been given this span.
    handed_out: bool = False
    #: Whether the operator keeps this URL out of spans and metrics.
    is_excluded: bool = False
    is_recorded: bool = False
    #: Whether the line shows the ids; see `request.root.Root.is_named`.
    is_named: bool = True
    mark: int = UNEXPORTED
    #: The probability with which the sampler took it, None where that is unknown.
    sample_rate: float | None = None
    export_rule: str | None = None
    #: Ended spans of a request that a rule may still have exported, and how many more there were.
    kept_spans: deque[ReadableSpan] | None = None
    forgotten_spans: int = 0
    _token: Token[Context] | None = None

    @property
    def caller_span_id(self) -> str:
        """The caller's span, empty if there is none."""
        return f"{self.caller.span_id:016x}" if self.caller is not None else ""

    @property
    def caller_span(self) -> Span:
        """The span that the incoming trace context names, invalid if there is none."""
        return NonRecordingSpan(self.caller or trace.INVALID_SPAN_CONTEXT)

    def attach(self, parent: Context | None, scope: RequestScope) -> None:
        """Make the span and the scope current in this thread, greenlet or task."""
        # One new context: each `set_value` would copy it again.
        ours = {SCOPE_KEY: scope, SPAN_KEY: self.span}
        self._token = attach(Context({**parent, **ours} if parent else ours))

    def detach(self) -> None:
        """Restore the context that was current before `attach`."""
        token = self._token
        if token is not None:
            # The token holds a context that holds the scope: a cycle for the garbage collector.
            self._token = None
            try:
                _detach(token)
            except (ValueError, RuntimeError):
                # Of another context: OpenTelemetry's own way logs that.
                otel_context.detach(token)

    def abandon(self) -> None:
        """Make `detach` do nothing: the context of `attach` is gone, or another one is current."""
        self._token = None

    def finish(self, event: CanonicalEvent, scope: RequestScope, replaced: Replaced) -> None:
        """Do nothing: no span records."""


def root_of(scope: RequestScope) -> OtelRoot:
    """Return the root of a request with what only OpenTelemetry's side knows of it.

    Raises:
        TypeError: a bug of ours: the scope was not opened by a `RootFactory` of this package.
    """
    root = scope.root
    if not isinstance(root, OtelRoot):
        raise TypeError(f"[BUG] the root of {scope.request_id!r} is {root!r}")
    return root


class RootSpan(OtelRoot):
    """The root of a request that has a span.

    Args:
        span: the span. One of the SDK's is a `RequestSpan`.
        caller: the incoming trace context.
        is_exported: whether the sampler has taken it.
        way: the way past the SDK; None if the SDK must make the span.
    """

    def __init__(
        self,
        span: Span,
        caller: SpanContext | None,
        *,
        is_exported: bool,
        way: DirectWay | None = None,
    ) -> None:
        ids = span.get_span_context()
        self.span = span
        self.trace_id = f"{ids.trace_id:032x}"
        self.span_id = f"{ids.span_id:016x}"
        self.caller = caller
        self.is_exported = is_exported
        self._way = way

    def record(self, mark: int, rates: tuple[float | None, float | None]) -> None:
        """Say that it is recorded, and with which of the sampler's rates."""
        self.is_recorded = True
        self.mark = mark
        self.sample_rate = rates[0 if self.caller is None else 1]

    def finish(self, event: CanonicalEvent, scope: RequestScope, replaced: Replaced) -> None:
        """Write the event onto the span and end it; see `request.root.Root.finish`."""
        span = self.span
        ended_ns = scope.started_wall_ns + (scope.ended_ns or scope.started_ns) - scope.started_ns
        error_type = error_type_of(event, scope)
        end: Callable[[int], None] = span.end
        if isinstance(span, RequestSpan):
            if error_type is None and self._export(span, event, scope, ended_ns):
                return
            end = span.end_with_request
        try:
            self._describe(event, scope, replaced(event), error_type)
        finally:
            end(ended_ns)

    def _export(
        self, span: RequestSpan, event: CanonicalEvent, scope: RequestScope, ended_ns: int
    ) -> bool:
        """Export span and event past the SDK; return False if the SDK might make something else of them."""
        way = self._way
        if way is None or not span.is_unseen() or not event.has_whole_head():
            return False
        most = way.most_attributes
        if most is not None and event.size() + MOST_BESIDE > most:
            return False
        shape = shape_of(_name_of(scope), *port_and_agent(scope.headers), self.sample_rate)
        times = (scope.started_wall_ns, ended_ns)
        span.ended = way.export_root(shape, event, span.get_span_context(), self.caller, times)
        return True

    def _describe(
        self,
        event: CanonicalEvent,
        scope: RequestScope,
        replaced: Mapping[str, str],
        error_type: str | None,
    ) -> None:
        span = self.span
        attributes: dict[str, AttributeValue] = {
            **event.attributes(),
            **beside_event(*port_and_agent(scope.headers)),
            **sampling_attributes(self.sample_rate, self.export_rule),
        }
        if self.forgotten_spans:
            attributes["canonical.dropped_spans"] = self.forgotten_spans
        present: Mapping[str, AttributeValue] = getattr(span, "attributes", None) or {}
        for name, value in replaced.items():
            if name in present and name not in attributes:
                attributes[name] = value
        if error_type is not None:
            attributes["error.type"] = error_type
            # Without a description: it also replaces one that may hold an exception's raw message.
            span.set_status(StatusCode.ERROR)
        limit = attribute_limit_of(span)
        if limit is not None and len(attributes) > limit - len(present):
            attributes = least_important_first(attributes)
        span.set_attributes(attributes)
        if error_type is not None and "exception.type" in attributes:
            # Backends look for the exception in a span event, as upstream records it. Redacted here.
            raised = {name: attributes[name] for name in EXCEPTION if name in attributes}
            span.add_event("exception", raised)
        span.update_name(_name_of(scope))


def _name_of(scope: RequestScope) -> str:
    method = scope.method if scope.method in METHODS else "HTTP"
    return f"{method} {scope.route}" if scope.route else method


def error_type_of(event: CanonicalEvent, scope: RequestScope) -> str | None:
    """Return `error.type` for span and metrics; None if the server did not fail."""
    if event.event_type is EventType.TIMEOUT:
        return "timeout"
    # A 4xx is no failure of a server span (HTTP semantic conventions, "Status").
    failed = scope.status is None or scope.status >= FIRST_SERVER_ERROR
    if not failed or scope.client_gone:
        return None
    return scope.error.type if scope.error is not None else str(scope.status or "no_response")


def end_open_spans(in_flight: Mapping[int, RequestScope]) -> None:
    """End the open spans below the roots of open requests, innermost first, with status ERROR.

    Call it from the watchdog's thread, never from a signal handler: the interrupted code may hold the
    lock of a span.
    """
    for scope in list(in_flight.values()):
        for open_span in reversed(list((scope.open_spans or {}).values())):
            span = open_span.made() if isinstance(open_span, PendingSpan) else open_span
            if isinstance(span, Span):
                span.set_status(StatusCode.ERROR, "the worker was aborted")
                span.end()
