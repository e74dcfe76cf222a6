"""The database query that Django runs in this thread now.

Lives in the worker. Django's own queries are counted by `django.queries`, so spans that a driver's
instrumentation makes meanwhile must not be counted again. `while_unrecorded` stands in the OpenTelemetry
context of a request that isn't recorded, as the value that suppresses instrumentations: the driver then
makes no span at all.
"""

from __future__ import annotations

import _thread

from otel_canonical.per_thread import PerThread


class Query:
    """A query that Django runs: one of the three kinds below."""


class RecordedQuery(Query):
    """A query of a recorded request. `has_span` says whether its driver has made a span for it."""

    has_span = False


#: A query of a request that isn't recorded.
UNRECORDED = Query()

#: A query that isn't the app's: what a connection asks to set itself up, or what is counted elsewhere.
INTERNAL = Query()

#: Set while such a query runs. Spans that start meanwhile are not counted.
current_query: PerThread[Query] = PerThread()


class _WhileUnrecorded:
    """Evaluates true while this thread runs an unrecorded query; instrumentations only test truthiness."""

    def __bool__(self) -> bool:
        # `PerThread.now` without its calls: an instrumentation tests this twice per query.
        me = _thread.get_ident()
        return me in current_query and current_query[me] is UNRECORDED


while_unrecorded = _WhileUnrecorded()
