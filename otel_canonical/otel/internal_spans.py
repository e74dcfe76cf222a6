"""Spans of what an exported request does inside its process: template renders, cache calls.

Lives where the app is loaded; makes nothing until the worker's SDK is there. INTERNAL spans, so that
the line doesn't count them as calls, and only in requests that are exported: to the others a render
or a look-up costs what it did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AttributeValue

from otel_canonical.request.scope import RequestScope

TEMPLATES, CACHES = "templates", "caches"

#: What makes the spans of a kind; a kind that isn't here has none.
_tracers: dict[str, trace.Tracer] = {}


def make_with(tracer: trace.Tracer, *, templates: bool, caches: bool) -> None:
    """Make spans from now on, of the kinds that the operator wants."""
    _tracers.clear()
    if templates:
        _tracers[TEMPLATES] = tracer
    if caches:
        _tracers[CACHES] = tracer


def are_made(kind: str) -> bool:
    """Return whether this process makes spans of a kind at all."""
    return kind in _tracers


def are_made_in(scope: RequestScope, kind: str) -> bool:
    """Return whether a request has spans of a kind."""
    return scope.root.is_recorded and kind in _tracers


@contextmanager
def span(kind: str, name: str, attributes: Mapping[str, AttributeValue]) -> Iterator[trace.Span]:
    """Put what the block does into a span; of an exception only the type, its message may be secret."""
    with _tracers[kind].start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(StatusCode.ERROR)
            raise
