"""The one root server span of each request, from accept to last byte.

Lives in the worker. The span is started when the request is accepted and handed to
opentelemetry-instrumentation-django as its own when Django sees the request, so that there is never a
second one; a request that Django never sees keeps it all the same. It ends when the scope does: what
ends it earlier (Django's middleware does, before a streamed body) is not heeded.

A request that will not be exported costs no span: it gets ids and a context, nothing records.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextvars import Token
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
)
from opentelemetry.util.types import AttributeValue

from otel_canonical.event import CanonicalEvent, EventType
from otel_canonical.request_scope import RequestScope

#: The scope rides in OpenTelemetry's context too: whoever carries that into a thread carries both.
SCOPE_KEY = otel_context.create_key("otel-canonical-scope")

#: Server spans answer for their own failures only (HTTP semantic conventions, "Status").
FIRST_SERVER_ERROR = 500

#: Attributes in which instrumentations put a URL as it was sent, secrets included.
URL_ATTRIBUTES = ("url.full", "http.target", "http.url")

METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)


class RootSpan:
    """The root of one request. Without a recording span it is a pair of ids and a context.

    `caller_span_id` is that of the incoming trace context, `handed_out` whether Django's instrumentation
    has taken this one for its own."""

    __slots__ = (
        "_token",
        "caller_span_id",
        "handed_out",
        "is_exported",
        "quiet",
        "span",
        "span_id",
        "trace_id",
    )

    def __init__(self, span: Span, caller: Span) -> None:
        ids = span.get_span_context()
        self.span = span
        incoming = caller.get_span_context()
        self.caller_span_id = f"{incoming.span_id:016x}" if incoming.is_valid else ""
        self.trace_id = f"{ids.trace_id:032x}" if ids.is_valid else ""
        self.span_id = f"{ids.span_id:016x}" if ids.is_valid else ""
        self.is_exported = span.is_recording() and ids.trace_flags.sampled
        self.handed_out = False
        #: A context in which instrumentations make no spans, once one was needed.
        self.quiet: Context | None = None
        self._token: Token[Context] | None = None

    def attach(self, parent: Context, scope: RequestScope) -> None:
        """Make this span, and the scope, the current ones of this thread, greenlet or task."""
        current = otel_context.set_value(SCOPE_KEY, scope, trace.set_span_in_context(self.span, parent))
        self._token = otel_context.attach(current)

    def detach(self) -> None:
        """Leave the context as it was before `attach`."""
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None

    def end(self, event: CanonicalEvent, scope: RequestScope, replaced: Mapping[str, str]) -> None:
        """Write the wide event onto the span and end it.

        Args:
            event: what to write.
            scope: its request, closed.
            replaced: attributes that instrumentations may have set and that must not leave as they
                are, with what goes there instead.
        """
        span = self.span
        if not span.is_recording():
            return
        # Uncovers the class's own `end`, which `RootSpans.open` shadows on this instance.
        vars(span).pop("end", None)
        attributes: dict[str, AttributeValue] = dict(event.attributes())
        present: Mapping[str, Any] = getattr(span, "attributes", None) or {}
        for name, value in replaced.items():
            if name in present and name not in attributes:
                attributes[name] = value
        error_type = _error_type(event, scope)
        if error_type is not None:
            attributes["error.type"] = error_type
            span.set_status(StatusCode.ERROR)
        span.set_attributes(attributes)
        method = scope.method if scope.method in METHODS else "HTTP"
        span.update_name(f"{method} {scope.route}" if scope.route else method)
        span.end(scope.started_wall_ns + (scope.ended_ns or scope.started_ns) - scope.started_ns)


class RootSpans:
    """Opens the root span of each request.

    Args:
        tracer: makes the spans; None when nothing is exported, then ids are all there is.
    """

    def __init__(self, tracer: trace.Tracer | None) -> None:
        self._tracer = tracer
        self._propagator = propagate.get_global_textmap()
        #: Headers to keep, as Gunicorn spells them.
        self.header_names = frozenset(name.upper() for name in self._propagator.fields)

    def record_with(self, tracer: trace.Tracer) -> None:
        """Make spans with `tracer` from now on."""
        self._tracer = tracer

    def open(self, scope: RequestScope) -> None:
        """Give the scope its root, in the trace of the caller if the request names one."""
        carrier = {
            name.lower(): value
            for name, value in scope.headers.items()
            if name in self.header_names
        }
        parent = self._propagator.extract(carrier, Context()) if carrier else Context()
        caller = trace.get_current_span(parent)
        if self._tracer is None:
            span: Span = _unrecorded(caller.get_span_context())
        else:
            span = self._tracer.start_span(
                scope.method if scope.method in METHODS else "HTTP",
                context=parent,
                kind=SpanKind.SERVER,
                attributes={"http.request.method": scope.method, "url.path": scope.path},
                start_time=scope.started_wall_ns,
            )
            if span.is_recording():
                _shadow_end(span)
        scope.root = RootSpan(span, caller)
        scope.root.attach(parent, scope)


def _error_type(event: CanonicalEvent, scope: RequestScope) -> str | None:
    if event.event_type is EventType.TIMEOUT:
        return "timeout"
    failed = scope.status is None or scope.status >= FIRST_SERVER_ERROR
    if not failed or scope.client_gone:
        return None
    return scope.error.type if scope.error is not None else str(scope.status or "no_response")


def _unrecorded(caller: SpanContext) -> Span:
    return NonRecordingSpan(
        SpanContext(
            trace_id=caller.trace_id if caller.is_valid else random.getrandbits(128) or 1,
            span_id=random.getrandbits(64) or 1,
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.DEFAULT),
            trace_state=caller.trace_state,
        )
    )


def _shadow_end(span: Span) -> None:
    """Let only us end this span. Public means: an instance attribute in front of the method.

    Neither `on_end` nor the SDK's ending hook may add attributes (opentelemetry-python #5614), and
    Django's middleware ends the span before a streamed body; holding back `end` settles both, on an
    SDK with a mutable ending hook just the same.
    """

    def end(end_time: int | None = None) -> None:
        return None

    span.end = end  # type: ignore[method-assign]


def end_open_spans(in_flight: Mapping[int, RequestScope]) -> None:
    """End the spans that open requests have begun below their roots, innermost first, as errors.

    Called from the watchdog's thread, never from a signal handler: a span's own lock might be held by
    the code that the signal interrupted.
    """
    for scope in list(in_flight.values()):
        for span in reversed(list((scope.open_spans or {}).values())):
            span.set_status(StatusCode.ERROR, "the worker was aborted")
            span.end()
