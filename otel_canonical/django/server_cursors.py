"""A span for a query through a server-side cursor of psycopg 3, which its instrumentation misses.

Lives where the app is loaded. Django makes that cursor without the factory that the instrumentation
has put into the connection (`QuerySet.iterator()`). The span is made afterwards, with upstream's own
attributes and only if the driver has made none: the day upstream does, ours is gone.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from opentelemetry.trace import SpanKind, StatusCode

INSTRUMENTATION = "opentelemetry.instrumentation.psycopg"


def is_missed(context: Any) -> bool:
    """Return whether a query, by the context that Django gives its `execute_wrappers`, may be missed."""
    cursor = getattr(context.get("cursor"), "cursor", None)
    return (
        INSTRUMENTATION in sys.modules
        and getattr(cursor, "name", None) is not None
        and type(cursor).__module__.startswith("django.db.backends.postgresql")
    )


def make_span(
    context: Any, sql: Any, params: Any, started_wall_ns: int, error_type: str | None
) -> None:
    """Make the span of a query that has just ended, as a child of the current span."""
    cursor, connection = context["cursor"].cursor, context["connection"]
    psycopg = importlib.import_module(INSTRUMENTATION)
    view = getattr(connection, "_otel_canonical_view", None)
    if view is None or view[0] is not connection.connection:
        integration = psycopg.DatabaseApiIntegration(
            INSTRUMENTATION,
            psycopg.PsycopgInstrumentor._DATABASE_SYSTEM,
            connection_attributes=psycopg.PsycopgInstrumentor._CONNECTION_ATTRIBUTES,
            version=psycopg.__version__,
            connect_module=psycopg.psycopg,
        )
        integration.get_connection_attributes(connection.connection)
        view = (connection.connection, integration, psycopg.CursorTracer(integration))
        connection._otel_canonical_view = view
    _, integration, tracer = view
    span = integration._tracer.start_span(
        tracer.get_operation_name(cursor, (sql,)) or integration.database or integration.name,
        kind=SpanKind.CLIENT,
        start_time=started_wall_ns,
    )
    tracer._populate_span(span, cursor, sql, params)
    if error_type is not None:
        span.set_attribute("error.type", error_type)
        span.set_status(StatusCode.ERROR)
    span.end()
