"""Appends a comment to each SQL statement that says which request it belongs to (sqlcommenter); opt-in.

Lives where the app is loaded. The comment (controller, route, `traceparent`) and its settings
(`SQLCOMMENTER_WITH_ROUTE`…) are those of OpenTelemetry's Django instrumentation. Its middleware covers
neither streamed bodies nor queries before the view; our wrapper around queries does. Tallies and our
spans have the text without the comment: a `traceparent` would make every text a different one.
"""

from __future__ import annotations

from otel_canonical.otel.instrumentation_internals import QueryWrapper, query_commenter
from otel_canonical.request.scope import RequestScope

#: Whether the operator wants comments; set in the worker.
is_wanted = False


def want(wanted: bool) -> None:
    """Switch comments on or off."""
    global is_wanted
    is_wanted = wanted


def commenting(execute: QueryWrapper, scope: RequestScope) -> QueryWrapper:
    """Return `execute`, a step of Django's `execute_wrappers`, with a comment added to its SQL."""
    if scope.django_request is None:
        return execute
    wrapper = query_commenter(scope.django_request)
    if wrapper is None:
        return execute

    def execute_with_comment(sql: object, params: object, many: bool, context: object) -> object:
        if many:
            # MySQL's driver sends many rows in one statement only if nothing follows them.
            return execute(sql, params, many, context)
        return wrapper(execute, sql, params, many, context)

    return execute_with_comment
