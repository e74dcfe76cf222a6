"""A request's root in OpenTelemetry: ids, a place in the context and, if it is exported, the server span.

A request that will not be exported costs no span: it gets ids and a context, nothing records. The event
is written onto the span of one that is, and ends it.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Mapping
from contextvars import Token
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.http import detect_synthetic_user_agent
from opentelemetry.util.types import AttributeValue

from otel_canonical.event.event import FIRST_SERVER_ERROR, CanonicalEvent, EventType
from otel_canonical.event.fields import ERROR_STACK_ATTRIBUTE
from otel_canonical.event.http_conventions import METHODS
from otel_canonical.otel.current_query import while_unrecorded
from otel_canonical.pool.slots import UNEXPORTED
from otel_canonical.request.scope import RequestScope

#: The scope rides in OpenTelemetry's context too: whoever carries that into a thread carries both.
SCOPE_KEY = otel_context.create_key("otel-canonical-scope")

#: Under which OpenTelemetry keeps the current span; found out by asking, the name isn't public.
_SPAN_KEY = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))


@suppress_instrumentation()
def _suppressed() -> Context:
    return otel_context.get_current()


#: In the context of a request that isn't recorded, under the keys by which OpenTelemetry suppresses
#: instrumentations; found out in the same way.
_SUPPRESSED_WHILE_UNRECORDED = dict.fromkeys(
    contextvars.Context().run(_suppressed), while_unrecorded
)

#: What a span's event `exception` holds (semantic conventions, "Exceptions").
EXCEPTION = ("exception.type", "exception.message", ERROR_STACK_ATTRIBUTE)

PORT_DIGITS = 5


class Root:
    """What every request's root is: ids, and a place in OpenTelemetry's context.

    `is_exported` says whether the trace leaves, as far as that is known; `is_recorded` whether its
    spans are made, because it does or because a rule may ask for it in the end. `caller` is the
    incoming trace context, None if there is none; `handed_out` says whether Django's instrumentation
    has taken this root for its own.
    """

    span: Span
    trace_id: str
    span_id: str
    is_exported: bool = False
    caller: SpanContext | None = None
    handed_out: bool = False
    #: Whether the operator keeps this URL out of spans and metrics.
    is_excluded: bool = False
    is_recorded: bool = False
    #: What the scoreboard has of it.
    mark: int = UNEXPORTED
    #: With which probability the sampler took it; None where that can't be known.
    sample_rate: float | None = None
    #: Why it is exported whatever the sampler said, if it is.
    export_rule: str | None = None
    #: Ended spans of a request that may yet have to be exported, and how many were too many.
    kept_spans: deque[Any] | None = None
    forgotten_spans: int = 0
    _token: Token[Context] | None = None

    @property
    def caller_span_id(self) -> str:
        """The caller's span, empty if there is none."""
        return f"{self.caller.span_id:016x}" if self.caller is not None else ""

    @property
    def caller_span(self) -> Span:
        """The span that the incoming trace context names, as it came; invalid if there is none."""
        return NonRecordingSpan(self.caller or trace.INVALID_SPAN_CONTEXT)

    def attach(self, parent: Context | None, scope: RequestScope) -> None:
        """Make its span, and the scope, the current ones of this thread, greenlet or task."""
        # In one step: each `set_value` would copy the context. And once: to suppress in each query would
        # need a context of its own, and one that is given up on would leave it behind.
        ours = {
            SCOPE_KEY: scope,
            _SPAN_KEY: self.span,
            **({} if self.is_recorded else _SUPPRESSED_WHILE_UNRECORDED),
        }
        self._token = otel_context.attach(Context({**parent, **ours} if parent else ours))

    def detach(self) -> None:
        """Leave the context as it was before `attach`."""
        if self._token is not None:
            otel_context.detach(self._token)
            # It holds a context that holds the scope: a circle, that only the garbage collector finds.
            self._token = None

    def abandon(self) -> None:
        """Never go back: the context of `attach` is no more, or another one is current now."""
        self._token = None


class UnexportedRoot(Root, NonRecordingSpan):
    """The root of a request that will not be exported, and its current span: ids, no more."""

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
        """This is the span."""
        return self

    @property
    def _context(self) -> SpanContext:  # type: ignore[override]
        """What the base class shows of itself, made only when somebody asks."""
        return self.get_span_context()

    def get_span_context(self) -> SpanContext:
        """Return the ids as OpenTelemetry wants them."""
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


class RootSpan(Root):
    """The root of a request that is recorded."""

    def __init__(
        self, span: Span, ids: SpanContext, caller: SpanContext | None, is_exported: bool
    ) -> None:
        self.span = span
        self.trace_id = f"{ids.trace_id:032x}"
        self.span_id = f"{ids.span_id:016x}"
        self.caller = caller
        self.is_exported = is_exported

    def end(self, event: CanonicalEvent, scope: RequestScope, replaced: Mapping[str, str]) -> None:
        """Write the wide event onto the span and end it.

        Args:
            event: what to write.
            scope: its request, closed.
            replaced: attributes that instrumentations may have set and that must not leave as they
                are, with what goes there instead.
        """
        span = self.span
        # Uncovers the class's own `end`, which `RootFactory.open` shadows on this instance.
        vars(span).pop("end", None)
        try:
            self._describe(span, event, scope, replaced)
        finally:
            ended_ns = scope.ended_ns or scope.started_ns
            span.end(scope.started_wall_ns + ended_ns - scope.started_ns)

    def _describe(
        self, span: Span, event: CanonicalEvent, scope: RequestScope, replaced: Mapping[str, str]
    ) -> None:
        attributes: dict[str, AttributeValue] = {**event.attributes(), **_beside_event(scope)}
        attributes.update(sampling_attributes(self.sample_rate, self.export_rule))
        if self.forgotten_spans:
            attributes["canonical.dropped_spans"] = self.forgotten_spans
        present: Mapping[str, Any] = getattr(span, "attributes", None) or {}
        for name, value in replaced.items():
            if name in present and name not in attributes:
                attributes[name] = value
        # Without a description, also in place of one that holds an exception's raw message.
        error_type = error_type_of(event, scope)
        if error_type is not None:
            attributes["error.type"] = error_type
            span.set_status(StatusCode.ERROR)
        span.set_attributes(attributes)
        if error_type is not None and "exception.type" in attributes:
            # Once more as what upstream records and backends look for; redacted by now.
            raised = {name: attributes[name] for name in EXCEPTION if name in attributes}
            span.add_event("exception", raised)
        method = scope.method if scope.method in METHODS else "HTTP"
        span.update_name(f"{method} {scope.route}" if scope.route else method)


def _beside_event(scope: RequestScope) -> dict[str, AttributeValue]:
    """Return what the HTTP semantic conventions want on a server span and no line says."""
    found: dict[str, AttributeValue] = {}
    _, colon, port = scope.headers.get("HOST", "").rpartition(":")
    if colon and port.isdecimal() and len(port) <= PORT_DIGITS:
        found["server.port"] = int(port)
    if kind := detect_synthetic_user_agent(scope.headers.get("USER-AGENT")):
        found["user_agent.synthetic.type"] = kind
    return found


def sampling_attributes(rate: float | None, rule: str | None) -> dict[str, AttributeValue]:
    """Return what tells how many requests a root stands for: 1 / `canonical.sample_rate`.

    All requests of which the rule says the same are exported, so each of them stands for itself.
    """
    if rule is not None:
        return {"canonical.sample_rate": 1.0, "canonical.export_rule": rule}
    return {} if rate is None else {"canonical.sample_rate": rate}


def error_type_of(event: CanonicalEvent, scope: RequestScope) -> str | None:
    """Return what failed, as `error.type` of span and metrics; None if nothing of ours did."""
    if event.event_type is EventType.TIMEOUT:
        return "timeout"
    # Server spans answer for their own failures only (HTTP semantic conventions, "Status").
    failed = scope.status is None or scope.status >= FIRST_SERVER_ERROR
    if not failed or scope.client_gone:
        return None
    return scope.error.type if scope.error is not None else str(scope.status or "no_response")


def end_open_spans(in_flight: Mapping[int, RequestScope]) -> None:
    """End the spans that open requests have begun below their roots, innermost first, as errors.

    Called from the watchdog's thread, never from a signal handler: a span's own lock might be held by
    the code that the signal interrupted.
    """
    for scope in list(in_flight.values()):
        for span in reversed(list((scope.open_spans or {}).values())):
            span.set_status(StatusCode.ERROR, "the worker was aborted")
            span.end()
