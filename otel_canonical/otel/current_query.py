"""Whether Django talks to a database just now: its queries are counted by `django.queries`, not by spans.

Lives in the worker. `while_unrecorded` is what OpenTelemetry's context of a request that isn't recorded says
of suppression: there a driver's span of such a query would serve nobody, and isn't made.
"""

from __future__ import annotations

import _thread

from otel_canonical.per_thread import PerThread


class Query:
    """What Django asks a database: one of those below."""


class RecordedQuery(Query):
    """A query of a request that is recorded. `has_span` is whether its driver has made its span."""

    has_span = False


#: A query of a request that isn't recorded.
UNRECORDED = Query()

#: What Django asks for itself, or more than that.
INTERNAL = Query()

#: Spans made in there are of queries counted already, or not to be counted.
current_query: PerThread[Query] = PerThread()


class _WhileUnrecorded:
    """True in a thread that is inside a quiet query: instrumentations ask for truth, no more."""

    def __bool__(self) -> bool:
        # As `now` does, without its calls: a driver's instrumentation asks twice for every query.
        me = _thread.get_ident()
        return me in current_query and current_query[me] is UNRECORDED


while_unrecorded = _WhileUnrecorded()
