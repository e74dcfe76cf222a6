"""Whether Django talks to a database just now: its queries are counted by `django_queries`, not by spans.

Lives in the worker. `while_quiet` is what OpenTelemetry's context of a request that isn't recorded says
of suppression: there a driver's span of such a query would serve nobody, and isn't made.
"""

from __future__ import annotations

from _thread import get_ident
from contextvars import ContextVar

from otel_canonical.inside import Inside


class InsideQuery(Inside):
    """What Django asks a database for itself, or more than that: one of those below."""

    __slots__ = ()

    is_quiet = False


class QuietQuery(InsideQuery):
    """A query of a request that isn't recorded."""

    __slots__ = ()

    is_quiet = True


class RecordedQuery(InsideQuery):
    """A query of a request that is recorded. `has_span` is whether its driver has made its span."""

    __slots__ = ("has_span",)

    has_span: bool


#: Spans made in there are of queries counted already, or not to be counted.
inside_django_query: ContextVar[InsideQuery | None] = ContextVar(
    "otel_canonical_inside_query", default=None
)


class _WhileQuiet:
    """True in a thread that is inside a quiet query: instrumentations ask for truth, no more."""

    def __bool__(self) -> bool:
        # As `now_inside` does, without its call: a driver's instrumentation asks twice for every query.
        inside = inside_django_query.get()
        return inside is not None and inside.is_quiet and inside.thread_id == get_ident()


while_quiet = _WhileQuiet()
