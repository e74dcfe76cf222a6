"""Opens the root span of each request: decides once whether it is exported, and makes a span only then.

The span is made when Gunicorn accepts the request, by our own tracer, under the name of
opentelemetry-instrumentation-django. Where that instrumentation is needed it is handed this span
instead of making its own, so there is never a second one; a request that Django never sees has it all
the same. It ends when the scope does: what ends it earlier (that instrumentation's middleware does,
before a streamed body) is not heeded.
"""

from __future__ import annotations

import os
import traceback
import weakref
from collections.abc import Callable
from typing import Protocol

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, TraceState
from opentelemetry.util.http import get_excluded_urls
from opentelemetry.util.types import Attributes, AttributeValue

from otel_canonical.event.http_conventions import METHODS
from otel_canonical.internal_errors import report_caught
from otel_canonical.otel.root_span import SCOPE_KEY, Root, RootSpan, UnexportedRoot
from otel_canonical.pool.slots import EXPORTED, KEPT
from otel_canonical.request.scope import RequestScope
from otel_canonical.stacks import errors

#: Where `get_excluded_urls` looks.
EXCLUDED_URLS_VARIABLES = ("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")


class SamplesHead(Protocol):
    """What decides on a root before it is made; see `sampler.HeadSampler`."""

    def begin(self) -> None:
        """Get ready: from now on roots are made."""

    def drops(self, trace_id: int) -> bool:
        """Return True if a root without a caller is certainly not recorded."""

    def ask(
        self, context: Context, trace_id: int, name: str, attributes: Attributes
    ) -> tuple[bool, TraceState | None]:
        """Return whether it is to be recorded, and its trace state."""


class RootFactory:
    """Opens the root span of each request.

    Args:
        tracer: makes the spans; None when nothing is exported, then ids are all there is.
        redact: takes the secrets out of a text.
        export_kept: exports the spans that were kept of a request that the sampler had dropped; None
            where such requests are not recorded.
    """

    def __init__(
        self,
        tracer: trace.Tracer | None,
        redact: Callable[[str], str],
        export_kept: Callable[[RequestScope], None] | None = None,
    ) -> None:
        self._tracer = tracer
        self._head_sampler: SamplesHead | None = None
        #: Whether requests that the sampler drops are recorded, for a rule to decide at their end.
        self.keeps_unsampled = export_kept is not None
        self._export_kept = export_kept
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
        head_sampler: SamplesHead | None = None,
        rates: tuple[float | None, float | None] = (None, None),
    ) -> None:
        """Make spans with `tracer` from now on.

        Args:
            tracer: makes the spans.
            head_sampler: says whether a span has to be made; None if only the tracer can tell.
            rates: with which probability it takes a request without, and one with a caller's trace.
        """
        if head_sampler is not None:
            head_sampler.begin()
        self._tracer = tracer
        self._head_sampler = head_sampler
        self._rates = rates

    def export_kept(self, scope: RequestScope) -> None:
        """Export the kept spans of a request that the sampler had dropped."""
        if self._export_kept is not None:
            self._export_kept(scope)

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
        try:
            if is_called:
                parent, caller = self._caller_of(scope)
            root: Root
            if self._excludes and self._excluded.url_disabled(_url_of(scope)):
                root = _unexported(caller, digits)
                root.is_excluded = True
            elif self._tracer is None:
                root = _unexported(caller, digits)
            else:
                root = self._judged(scope, self._tracer, parent, caller, digits)
        except Exception as error:  # noqa: BLE001  # a fence, see `report_caught`: samplers may be anybody's
            report_caught("making the root of a request", error)
            parent, root = None, _unexported(None, digits)
        root.attach(parent, scope)
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

    def _judged(
        self,
        scope: RequestScope,
        tracer: trace.Tracer,
        parent: Context | None,
        caller: SpanContext | None,
        digits: str,
    ) -> Root:
        """Return the root that the sampler wants: a span, or ids alone."""
        head_sampler = self._head_sampler
        if head_sampler is not None:
            trace_id = caller.trace_id if caller is not None else int(digits[16:], 16)
            if caller is None and head_sampler.drops(trace_id):
                return _unexported(None, digits)
        if self.keeps_unsampled:
            # With the scope in its context the sampler sees that this is a request's.
            parent = Context({**(parent or {}), SCOPE_KEY: scope})
        elif parent is None:
            parent = Context()
        name = scope.method if scope.method in METHODS else "HTTP"
        attributes = {"http.request.method": scope.method, "url.path": scope.path}
        if head_sampler is not None:
            is_recorded, state = head_sampler.ask(parent, trace_id, name, attributes)
            if not is_recorded:
                return _unexported(caller, digits, state)
        span = tracer.start_span(
            name,
            context=parent,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=scope.started_wall_ns,
        )
        ids = span.get_span_context()
        if not ids.is_valid or (caller is not None and ids.span_id == caller.span_id):
            # A tracer that is switched off hands back what it was given.
            return _unexported(caller, digits)
        is_exported = span.is_recording() and ids.trace_flags.sampled
        is_recorded = is_exported or (self.keeps_unsampled and span.is_recording())
        if is_recorded:
            _shadow_end(span)
            _shadow_record_exception(span, self._redact)
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
    itself = weakref.ref(span)  # a strong one would make a circle

    def record_exception(
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        facts: dict[str, AttributeValue] = {
            "exception.type": errors.of_error(exception).type,
            "exception.message": redact(errors.of_error(exception).message),
            "exception.stacktrace": redact("".join(traceback.format_exception(exception))),
        }
        if (owner := itself()) is not None:
            owner.add_event("exception", {**facts, **(attributes or {})}, timestamp)

    span.record_exception = record_exception  # type: ignore[method-assign]


def _unexported(
    caller: SpanContext | None, digits: str, state: TraceState | None = None
) -> UnexportedRoot:
    # That an id is all zeros doesn't happen.
    if caller is None:
        return UnexportedRoot(digits[16:], digits[:16], None, state)
    return UnexportedRoot(
        f"{caller.trace_id:032x}", digits[:16], caller, state or caller.trace_state
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
