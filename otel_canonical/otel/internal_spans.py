"""Spans for what an exported request does inside its process: template renders and cache calls.

Lives where the app is loaded; no spans are made before the worker's SDK is set up. They are INTERNAL
spans, so the line doesn't count them as outgoing calls. Requests that aren't recorded get none and pay
nothing for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AttributeValue

from otel_canonical.request.scope import RequestScope

TEMPLATES, CACHES = "templates", "caches"

#: The tracer for each kind of span; a kind that is switched off is absent.
_tracers: dict[str, trace.Tracer] = {}


def make_with(tracer: trace.Tracer, *, templates: bool, caches: bool) -> None:
    """Make spans of the kinds that the operator wants from now on."""
    _tracers.clear()
    if templates:
        _tracers[TEMPLATES] = tracer
    if caches:
        _tracers[CACHES] = tracer


def are_made(kind: str) -> bool:
    """Return whether this process makes spans of a kind at all."""
    return kind in _tracers


def are_made_in(scope: RequestScope, kind: str) -> bool:
    """Return whether a request gets spans of a kind."""
    return scope.root.is_recorded and kind in _tracers


@contextmanager
def span(kind: str, name: str, attributes: Mapping[str, AttributeValue]) -> Iterator[trace.Span]:
    """Run the block inside a span. Of an exception only the type is recorded: its message may be secret."""
    with _tracers[kind].start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(StatusCode.ERROR)
            raise
