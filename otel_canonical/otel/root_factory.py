"""Opens the root of each request: decides once whether it is recorded, and makes a span only then.

The span starts when Gunicorn accepts the request and ends when the scope closes. It is made by our own
tracer, under the name of opentelemetry-instrumentation-django. Where that instrumentation is needed it
is given this span, so there are never two, and a request that Django never sees has one as well.
The SDK makes the spans of a worker's first request, and those at whose beginning somebody else looks: a
span processor of the user's, a sampler that adds attributes. Others it makes when they are looked at, if
they are; see `request_span`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import NamedTuple

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult
from opentelemetry.trace import Span, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.http import ExcludeList, get_excluded_urls

from otel_canonical.event.http_conventions import METHODS
from otel_canonical.internal_errors import report_caught, warn
from otel_canonical.otel.prepared_spans import DirectWay
from otel_canonical.otel.propagator import HEADERS, headers_read_by
from otel_canonical.otel.request_span import RequestSpan
from otel_canonical.otel.root_span import SCOPE_KEY, OtelRoot, RootSpan
from otel_canonical.otel.sampler import HeadSampler, Rates
from otel_canonical.otel.unexported_root import UnexportedRoot, UnnamedRoot
from otel_canonical.pool.slots import EXPORTED, KEPT
from otel_canonical.request.scope import RequestScope

#: The variables that `get_excluded_urls` reads.
EXCLUDED_URLS_VARIABLES = ("OTEL_PYTHON_DJANGO_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")


class Recording(NamedTuple):
    """How root spans are made.

    `head_sampler` says beforehand whether a span is needed; None if only the tracer can tell. `rates`
    are the probabilities with which the sampler takes a request. `find_way` returns the way past the SDK,
    given a root that the SDK has made.
    """

    tracer: trace.Tracer
    head_sampler: HeadSampler | None = None
    rates: Rates = Rates(None, None)
    find_way: Callable[[SdkSpan], DirectWay | None] | None = None


class RootFactory:
    """Opens the root of each request.

    Args:
        recording: how spans are made; None while nothing is exported, then a root is ids only.
        redact: removes the secrets from a text.
        export_kept: exports the kept spans of a request that the sampler has dropped; None if such
            requests are not recorded.
        names_all: whether log events are exported, which carry the ids of requests without a span, too.
    """

    def __init__(
        self,
        recording: Recording | None,
        redact: Callable[[str], str],
        export_kept: Callable[[RequestScope], None] | None = None,
        *,
        names_all: bool = False,
    ) -> None:
        self._recording = recording
        self._names_all = names_all or recording is not None
        self.keeps_unsampled = export_kept is not None
        self._export_kept = export_kept
        self._redact = redact
        #: The way past the SDK, if there is one and it was looked for.
        self._way: DirectWay | None = None
        self._has_looked = False
        # URLs excluded here have no spans and no metrics, but still a line.
        self._excluded = _excluded_urls()
        self._propagator = propagate.get_global_textmap()
        #: Headers that carry trace contexts, in capitals.
        self.header_names = headers_read_by(self._propagator)

    def record_with(self, recording: Recording) -> None:
        """Make spans from now on."""
        if recording.head_sampler is not None:
            recording.head_sampler.begin()
        self._names_all = True
        self._recording = recording
        self.look_again()

    def look_again(self) -> None:
        """Look for the way past the SDK again: a span processor was added."""
        self._way, self._has_looked = None, False

    def export_kept(self, scope: RequestScope) -> None:
        """Export the kept spans of a request that the sampler has dropped."""
        if self._export_kept is not None:
            self._export_kept(scope)

    def is_exporting(self) -> bool:
        """Return whether spans are made at all."""
        return self._recording is not None

    def open(self, scope: RequestScope, digits: str, *, is_called: bool = True) -> OtelRoot:
        """Set the root of a new scope and return it; see `request.root.RootFactory.open`."""
        parent: Context | None = None
        caller: SpanContext | None = None
        try:
            if is_called:
                parent, caller = self._caller_of(scope)
            root: OtelRoot
            if self._excluded is not None and self._excluded.url_disabled(_url_of(scope)):
                root = _unexported(caller, digits)
                root.is_excluded = True
            elif self._recording is None:
                if caller is None and not self._names_all:
                    root = UnnamedRoot(digits)
                else:
                    root = _unexported(caller, digits)
            else:
                root = self._sampled(scope, self._recording, parent, caller, digits)
        except Exception as error:  # noqa: BLE001  # reported; a user's sampler may raise anything
            report_caught("making the root of a request", error)
            parent, root = None, _unexported(None, digits)
        root.attach(parent, scope)
        scope.root = root
        return root

    def _caller_of(self, scope: RequestScope) -> tuple[Context | None, SpanContext | None]:
        if self.header_names.isdisjoint(scope.headers):
            return None, None
        parent = self._propagator.extract(scope.headers, Context(), HEADERS)
        caller = trace.get_current_span(parent).get_span_context()
        return parent, caller if caller.is_valid else None

    def _sampled(
        self,
        scope: RequestScope,
        recording: Recording,
        parent: Context | None,
        caller: SpanContext | None,
        digits: str,
    ) -> OtelRoot:
        """Ask the sampler; return a root with a span, or ids only."""
        tracer, head, rates, find_way = recording
        is_taken: bool | None = None
        if head is not None:
            trace_id = caller.trace_id if caller is not None else int(digits[16:48], 16)
            if caller is None:
                is_taken = head.decides(trace_id)
                if is_taken is False:
                    return _unexported(None, digits)
        if self.keeps_unsampled:
            # `CountingSampler` looks for the scope to tell a request's spans from others.
            parent = Context({**(parent or {}), SCOPE_KEY: scope})
        elif parent is None:
            parent = Context()
        name = scope.method if scope.method in METHODS else "HTTP"
        attributes = {"http.request.method": scope.method, "url.path": scope.path}
        started_ns = scope.started_wall_ns
        # No scope in here: the scope has the root, and a cycle is work for the garbage collector.
        start = functools.partial(
            tracer.start_span, name, parent, SpanKind.SERVER, attributes, start_time=started_ns
        )
        if head is None:
            return self._made(start(), caller, digits, rates)
        if is_taken:
            result = SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        else:
            result = head.ask(parent, trace_id, name, attributes)
            if result.decision is Decision.DROP:
                return _unexported(caller, digits, result.trace_state)
        span_id = int(digits[:16], 16)
        make = functools.partial(head.start, trace_id, span_id, result, start)
        if (
            self._way is not None
            and result.decision is Decision.RECORD_AND_SAMPLE
            and result.attributes == attributes
        ):
            flags = _flags_below(caller)
            ids = SpanContext(trace_id, span_id, False, flags, result.trace_state)
            unmade = RequestSpan(ids, self._redact, make)
            root = RootSpan(unmade, caller, is_exported=True, way=self._way)
            root.record(EXPORTED, rates)
            return root
        span = make()
        if not self._has_looked and isinstance(span, SdkSpan) and not self.keeps_unsampled:
            self._has_looked = True
            self._way = find_way(span) if find_way is not None else None
        return self._made(span, caller, digits, rates)

    def _made(self, span: Span, caller: SpanContext | None, digits: str, rates: Rates) -> OtelRoot:
        """Return the root of a span that the tracer has made."""
        ids = span.get_span_context()
        if not ids.is_valid or (caller is not None and ids.span_id == caller.span_id):
            # A disabled tracer returns the parent, or an invalid span.
            return _unexported(caller, digits)
        is_exported = span.is_recording() and ids.trace_flags.sampled
        is_recorded = is_exported or (self.keeps_unsampled and span.is_recording())
        if is_recorded and isinstance(span, SdkSpan):
            span = RequestSpan.of(span, self._redact)
        root = RootSpan(span, caller, is_exported=is_exported)
        if is_recorded:
            root.record(EXPORTED if is_exported else KEPT, rates)
        return root


def _excluded_urls() -> ExcludeList | None:
    """Return the URLs without spans and metrics; None if there are none, so that no URL is built."""
    if not any(os.environ.get(name) for name in EXCLUDED_URLS_VARIABLES):
        return None
    try:
        return get_excluded_urls("DJANGO")
    except re.error as error:
        # Only where another distro has set the SDK up; else the arbiter has removed the wrong ones.
        warn(f"{' or '.join(EXCLUDED_URLS_VARIABLES)} is no regular expression ({error}): ignored")
        return None


def _url_of(scope: RequestScope) -> str:
    return f"http://{scope.headers.get('HOST', '')}{scope.path}"


#: Of a trace without a caller.
_TAKEN = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)


def _flags_below(caller: SpanContext | None) -> TraceFlags:
    """Return the flags of a sampled root; whether the trace's id is random is the caller's to say."""
    if caller is None:
        return _TAKEN
    return TraceFlags(TraceFlags.SAMPLED | caller.trace_flags & TraceFlags.RANDOM_TRACE_ID)


def _unexported(
    caller: SpanContext | None, digits: str, state: TraceState | None = None
) -> UnexportedRoot:
    # Ids of zeros only would be invalid: a chance of 1 in 2^64.
    if caller is None:
        return UnexportedRoot(digits[16:48], digits[:16], None, state)
    return UnexportedRoot(
        f"{caller.trace_id:032x}", digits[:16], caller, state or caller.trace_state
    )
