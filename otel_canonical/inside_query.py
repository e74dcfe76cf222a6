"""Whether Django talks to a database just now: its queries are counted by `django_queries`, not by spans.

Lives in the worker. `while_quiet` is what OpenTelemetry's context of a request that isn't recorded says
of suppression: there a driver's span of such a query would serve nobody, and isn't made.
"""

from __future__ import annotations

import _thread

from otel_canonical.inside import Inside


class Query:
    """What Django asks a database: one of those below."""


class RecordedQuery(Query):
    """A query of a request that is recorded. `has_span` is whether its driver has made its span."""

    has_span = False


#: A query of a request that isn't recorded.
QUIET = Query()

#: What Django asks for itself, or more than that.
OWN = Query()

#: Spans made in there are of queries counted already, or not to be counted.
inside_django_query: Inside[Query] = Inside()


class _WhileQuiet:
    """True in a thread that is inside a quiet query: instrumentations ask for truth, no more."""

    def __bool__(self) -> bool:
        # As `now` does, without its calls: a driver's instrumentation asks twice for every query.
        me = _thread.get_ident()
        return me in inside_django_query and inside_django_query[me] is QUIET


while_quiet = _WhileQuiet()
