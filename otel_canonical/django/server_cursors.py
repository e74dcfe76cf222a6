"""A span for a query through a server-side cursor of psycopg 3, which its instrumentation misses.

Lives where the app is loaded. Django makes that cursor without the factory that the instrumentation
has put into the connection (`QuerySet.iterator()`). The span is made afterwards, with upstream's own
attributes and only if the driver has made none: the day upstream does, ours is gone.
"""

from __future__ import annotations

import sys
from typing import Any

from opentelemetry.trace import StatusCode

from otel_canonical.otel.instrumentation_internals import PSYCOPG, PsycopgSpans


def is_missed(context: Any) -> bool:
    """Return whether a query, by the context that Django gives its `execute_wrappers`, may be missed."""
    cursor = getattr(context.get("cursor"), "cursor", None)
    return (
        PSYCOPG in sys.modules
        and getattr(cursor, "name", None) is not None
        and type(cursor).__module__.startswith("django.db.backends.postgresql")
    )


def make_span(
    context: Any, sql: Any, params: Any, started_wall_ns: int, error_type: str | None
) -> None:
    """Make the span of a query that has just ended, as a child of the current span."""
    cursor, connection = context["cursor"].cursor, context["connection"]
    view = getattr(connection, "_otel_canonical_view", None)
    if view is None or view[0] is not connection.connection:
        view = (connection.connection, PsycopgSpans(connection.connection))
        connection._otel_canonical_view = view
    spans: PsycopgSpans = view[1]
    span = spans.start(cursor, sql, started_wall_ns)
    spans.describe(span, cursor, sql, params)
    if error_type is not None:
        span.set_attribute("error.type", error_type)
        span.set_status(StatusCode.ERROR)
    span.end()
