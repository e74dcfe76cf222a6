"""The one root server span of each request, from accept to last byte.

Lives in the worker. The span is started when the request is accepted and handed to
opentelemetry-instrumentation-django as its own when Django sees the request, so that there is never a
second one; a request that Django never sees keeps it all the same. It ends when the scope does: what
ends it earlier (Django's middleware does, before a streamed body) is not heeded.

A request that will not be exported costs no span: it gets ids and a context, nothing records.
"""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any, Protocol

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
    TraceState,
)
from opentelemetry.util.http import detect_synthetic_user_agent, get_excluded_urls
from opentelemetry.util.types import Attributes, AttributeValue

from otel_canonical import error_facts
from otel_canonical.event import CanonicalEvent, EventType
from otel_canonical.fields import ERROR_STACK_ATTRIBUTE
from otel_canonical.request_scope import RequestScope
from otel_canonical.shared_page import EXPORTED, KEPT, UNEXPORTED

#: The scope rides in OpenTelemetry's context too: whoever carries that into a thread carries both.
SCOPE_KEY = otel_context.create_key("otel-canonical-scope")

#: Under which OpenTelemetry keeps the current span; found out by asking, the name isn't public.
_SPAN_KEY = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))

#: Server spans answer for their own failures only (HTTP semantic conventions, "Status").
FIRST_SERVER_ERROR = 500

#: Attributes in which instrumentations put a URL as it was sent, secrets included.
URL_ATTRIBUTES = ("url.full", "http.target", "http.url")

#: What a span's event `exception` holds (semantic conventions, "Exceptions").
EXCEPTION = ("exception.type", "exception.message", ERROR_STACK_ATTRIBUTE)

HIGHEST_PORT = 65_535

#: Where `get_excluded_urls` looks.
EXCLUDED_URLS_VARIABLES = ("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")

METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)


class Root:
    """What every request's root is: ids, and a place in OpenTelemetry's context.

    `is_exported` says whether the trace leaves, as far as that is known; `is_recorded` whether its
    spans are made, because it does or because a rule may ask for it in the end. `caller` is the
    incoming trace context, None if there is none; `handed_out` says whether Django's instrumentation
    has taken this root for its own; `quiet` is a context in which instrumentations make no spans, once
    one was needed.
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
    #: What the shared page has of it.
    mark: int = UNEXPORTED
    #: With which probability the sampler took it; None where that can't be known.
    sample_rate: float | None = None
    #: Why it is exported whatever the sampler said, if it is.
    export_rule: str | None = None
    #: Ended spans of a request that may yet have to be exported, and how many were too many.
    kept_spans: deque[Any] | None = None
    forgotten_spans: int = 0
    quiet: Context | None = None
    _token: Token[Context] | None = None

    @property
    def caller_span_id(self) -> str:
        """The caller's span, empty if there is none."""
        return f"{self.caller.span_id:016x}" if self.caller is not None else ""

    @property
    def caller_span(self) -> Span:
        """The span that the incoming trace context names, as it came; invalid if there is none."""
        return NonRecordingSpan(self.caller or trace.INVALID_SPAN_CONTEXT)

    def attach(self, parent: Context | None, span: Span, scope: RequestScope) -> None:
        """Make its span, and the scope, the current ones of this thread, greenlet or task."""
        # In one step: each `set_value` would copy the context.
        ours = {SCOPE_KEY: scope, _SPAN_KEY: span}
        self._token = otel_context.attach(Context({**parent, **ours} if parent else ours))

    def detach(self) -> None:
        """Leave the context as it was before `attach`."""
        if self._token is not None:
            otel_context.detach(self._token)
            self._token = None

    def abandon(self) -> None:
        """Never go back: the context of `attach` is no more, or another one is current now."""
        self._token = None


class UnexportedRoot(Root, NonRecordingSpan):
    """The root of a request that will not be exported, and its current span: ids, no more."""

    trace_state: TraceState | None = None

    def __init__(self, trace_id: str, span_id: str, caller: SpanContext | None) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        if caller is not None:
            self.caller = caller
            self.trace_state = caller.trace_state

    @property
    def span(self) -> Span:  # type: ignore[override]
        """This is the span."""
        return self

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
        # Uncovers the class's own `end`, which `RootSpans.open` shadows on this instance.
        vars(span).pop("end", None)
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
        span.end(scope.started_wall_ns + (scope.ended_ns or scope.started_ns) - scope.started_ns)


def _beside_event(scope: RequestScope) -> dict[str, AttributeValue]:
    """Return what the HTTP semantic conventions want on a server span and no line says."""
    found: dict[str, AttributeValue] = {}
    port = scope.headers.get("HOST", "").rpartition(":")[2]
    if port.isdecimal() and int(port) <= HIGHEST_PORT:
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


class AsksFirst(Protocol):
    """What decides on a root before it is made; see `span_sampler.AskedFirst`."""

    def ask(
        self, context: Context, trace_id: int, name: str, attributes: Attributes
    ) -> tuple[bool, TraceState | None]:
        """Return whether it is to be recorded, and its trace state."""


class RootSpans:
    """Opens the root span of each request.

    Args:
        tracer: makes the spans; None when nothing is exported, then ids are all there is.
        redact: takes the secrets out of a text.
        keeps: whether requests that the sampler drops are recorded all the same.
    """

    def __init__(
        self, tracer: trace.Tracer | None, redact: Callable[[str], str], *, keeps: bool = False
    ) -> None:
        self._tracer = tracer
        self._asked_first: AsksFirst | None = None
        self._keeps = keeps
        self._rates: tuple[float | None, float | None] = (None, None)
        self._redact = redact
        # A site that keeps URLs out of its traces still has their lines.
        self._excluded = get_excluded_urls("DJANGO")
        # An empty list is not worth making a URL for.
        self._excludes = any(os.environ.get(name) for name in EXCLUDED_URLS_VARIABLES)
        self._propagator = propagate.get_global_textmap()
        #: Headers to keep, as Gunicorn spells them.
        self.header_names = frozenset(name.upper() for name in self._propagator.fields)

    def record_with(
        self,
        tracer: trace.Tracer,
        asked_first: AsksFirst | None = None,
        rates: tuple[float | None, float | None] = (None, None),
    ) -> None:
        """Make spans with `tracer` from now on.

        Args:
            tracer: makes the spans.
            asked_first: says whether a span has to be made; None if only the tracer can tell.
            rates: with which probability it takes a request without, and one with a caller's trace.
        """
        self._tracer = tracer
        self._asked_first = asked_first
        self._rates = rates

    def is_exporting(self) -> bool:
        """Return whether spans are made at all."""
        return self._tracer is not None

    def open(self, scope: RequestScope, digits: str, *, is_called: bool = True) -> Root:
        """Give the scope its root, in the trace of the caller if the request names one; return it.

        Args:
            scope: a request that was just accepted.
            digits: 48 random hex digits, for ids.
            is_called: False says that its headers name no caller; then they aren't looked at.
        """
        parent: Context | None = None
        caller: SpanContext | None = None
        if is_called:
            parent, caller = self._caller_of(scope)
        is_excluded = self._excludes and self._excluded.url_disabled(_url_of(scope))
        if self._tracer is not None and not is_excluded:
            root: Root = self._recorded(scope, self._tracer, parent, caller, digits)
            root.attach(parent, root.span, scope)
        else:
            root = unexported = _unexported(caller, digits)
            if is_excluded:
                root.is_excluded = True
            root.attach(parent, unexported, scope)
        scope.root = root
        return root

    def _caller_of(self, scope: RequestScope) -> tuple[Context | None, SpanContext | None]:
        carrier = {
            name.lower(): value
            for name, value in scope.headers.items()
            if name in self.header_names
        }
        if not carrier:
            return None, None
        parent = self._propagator.extract(carrier, Context())
        caller = trace.get_current_span(parent).get_span_context()
        return parent, caller if caller.is_valid else None

    def _recorded(
        self,
        scope: RequestScope,
        tracer: trace.Tracer,
        parent: Context | None,
        caller: SpanContext | None,
        digits: str,
    ) -> Root:
        if self._keeps:
            # With the scope in its context the sampler sees that this is a request's.
            parent = Context({**(parent or {}), SCOPE_KEY: scope})
        elif parent is None:
            parent = Context()
        name = scope.method if scope.method in METHODS else "HTTP"
        attributes = {"http.request.method": scope.method, "url.path": scope.path}
        if self._asked_first is not None:
            trace_id = caller.trace_id if caller is not None else int(digits[16:], 16)
            is_recorded, state = self._asked_first.ask(parent, trace_id, name, attributes)
            if not is_recorded:
                unexported = _unexported(caller, digits)
                unexported.trace_state = state
                return unexported
        span = tracer.start_span(
            name,
            context=parent,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=scope.started_wall_ns,
        )
        ids = span.get_span_context()
        is_exported = span.is_recording() and ids.trace_flags.sampled
        is_recorded = is_exported or (self._keeps and span.is_recording())
        if is_recorded:
            _shadow_end(span)
            _shadow_record_exception(span, self._redact)
        if not ids.is_valid:
            return _unexported(caller, digits)
        root = RootSpan(span, ids, caller, is_exported)
        if is_recorded:
            root.is_recorded = True
            root.mark = EXPORTED if is_exported else KEPT
            root.sample_rate = self._rates[0 if caller is None else 1]
        return root


def _url_of(scope: RequestScope) -> str:
    return f"http://{scope.headers.get('HOST', '')}{scope.path}"


def _shadow_record_exception(span: Span, redact: Callable[[str], str]) -> None:
    """Have exceptions recorded on this span without the secrets in their messages."""

    def record_exception(
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        facts: dict[str, AttributeValue] = {
            "exception.type": error_facts.of_error(exception).type,
            "exception.message": redact(error_facts.of_error(exception).message),
            "exception.stacktrace": redact("".join(traceback.format_exception(exception))),
        }
        span.add_event("exception", {**facts, **(attributes or {})}, timestamp)

    span.record_exception = record_exception  # type: ignore[method-assign]


def error_type_of(event: CanonicalEvent, scope: RequestScope) -> str | None:
    """Return what failed, as `error.type` of span and metrics; None if nothing of ours did."""
    if event.event_type is EventType.TIMEOUT:
        return "timeout"
    failed = scope.status is None or scope.status >= FIRST_SERVER_ERROR
    if not failed or scope.client_gone:
        return None
    return scope.error.type if scope.error is not None else str(scope.status or "no_response")


def _unexported(caller: SpanContext | None, digits: str) -> UnexportedRoot:
    # That an id is all zeros doesn't happen.
    trace_id = f"{caller.trace_id:032x}" if caller is not None else digits[16:]
    return UnexportedRoot(trace_id, digits[:16], caller)


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
