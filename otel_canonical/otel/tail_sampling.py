"""Tail sampling: keeps the spans of a dropped request until a rule decides whether to export it.

Lives in the worker, only if the operator has a rule (`always_export`). The sampler has dropped such a
request, so its spans are RECORD_ONLY, exporters ignore them, and outgoing calls say that the trace isn't
sampled. If the rule asks for the request once its outcome is known, the kept spans go to the exporters
as sampled ones; if not, they are discarded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, TraceFlags

from otel_canonical.internal_errors import guarded_call
from otel_canonical.otel.repairs import copy_of
from otel_canonical.otel.root_span import SCOPE_KEY, root_of
from otel_canonical.request.root import NO_ROOT
from otel_canonical.request.scope import RequestScope

#: Bounds the spans kept for one request. A span takes a few kilobytes; a request may run any number of queries.
MOST_SPANS = 1000

#: Bounds the spans in progress: one that is never ended must not stay here for ever.
MOST_OPEN_SPANS = 10_000


class TailSampling(SpanProcessor):
    """Keeps the ended spans of open requests.

    Args:
        exporters: returns the span processors that export.
    """

    def __init__(self, exporters: Callable[[], Iterable[SpanProcessor]]) -> None:
        self._exporters = exporters
        self._owners: dict[int, RequestScope] = {}

    @guarded_call("noting a span that may be exported")
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Remember which request a span belongs to; only now is its parent's context known."""
        ids = span.get_span_context()
        if ids.trace_flags.sampled:
            return
        scope = otel_context.get_value(SCOPE_KEY, parent_context)
        if not isinstance(scope, RequestScope):
            return
        if scope.root is not NO_ROOT:
            # The root itself starts before its scope has it, and ends by `finish`.
            if scope.open_spans is None:
                scope.open_spans = {}
            scope.open_spans[ids.span_id] = span
        if len(self._owners) >= MOST_OPEN_SPANS:
            self._owners.pop(next(iter(self._owners)), None)
        self._owners[ids.span_id] = scope

    @guarded_call("keeping a span")
    def on_end(self, span: ReadableSpan) -> None:
        """Keep the span, or export it if its request is exported by now."""
        ids = span.get_span_context()
        scope = self._owners.pop(ids.span_id, None) if ids is not None else None
        if scope is None:
            return
        if scope.open_spans is not None and ids is not None:
            scope.open_spans.pop(ids.span_id, None)
        root = root_of(scope)
        if root.is_exported:
            self._export(span)
        elif scope.is_open:
            if root.kept_spans is None:
                root.kept_spans = deque()
            if len(root.kept_spans) < MOST_SPANS:
                root.kept_spans.append(span)
            else:
                root.forgotten_spans += 1

    def release(self, scope: RequestScope) -> None:
        """Export the kept spans of a request; spans that end later are exported at once.

        The watchdog's thread may call this while the request runs; it is called again at the end.
        """
        root = root_of(scope)
        root.is_exported = True
        while root.kept_spans:
            self._export(root.kept_spans.popleft())

    def _export(self, span: ReadableSpan) -> None:
        sampled = _as_sampled(span)
        for exporter in self._exporters():
            exporter.on_end(sampled)


def _as_sampled(span: ReadableSpan) -> ReadableSpan:
    ids = span.get_span_context()
    assert ids is not None
    sampled = SpanContext(
        ids.trace_id,
        ids.span_id,
        is_remote=False,
        trace_flags=TraceFlags(ids.trace_flags | TraceFlags.SAMPLED),
        trace_state=ids.trace_state,
    )
    return copy_of(span, context=sampled)
