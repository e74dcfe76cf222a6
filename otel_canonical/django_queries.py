"""Counts the queries that Django runs, on every database alias, whoever else watches them.

Lives where the app is loaded. Django's own `execute_wrappers` see what spans don't (psycopg 3's
server-side cursors) and everything under DEBUG; so queries are counted here, and spans that a
driver's instrumentation makes of the same queries are not counted again.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Token
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorDebugWrapper
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_canonical import server_cursors, sql_comments
from otel_canonical.fence import fenced
from otel_canonical.request_scope import RequestScope, open_scope
from otel_canonical.span_processor import DriverSpans, inside_django_query

_MARK = "__otel_canonical__"

_InsideToken = Token[bool | DriverSpans]
_Marks = tuple[_InsideToken, Token[Context] | None, DriverSpans | None]


def watch_connections() -> None:
    """Watch every connection there is and every one to come."""
    _wrap_debug_sql()
    connection_created.connect(_watch_new, dispatch_uid="otel_canonical.django_queries")
    for connection in connections.all(initialized_only=True):
        _watch(connection)


def _wrap_debug_sql() -> None:
    """Wrap what Django does around a query under DEBUG: on SQLite it asks how to quote parameters."""
    debug_sql = CursorDebugWrapper.debug_sql
    if hasattr(debug_sql, _MARK):
        return

    @functools.wraps(debug_sql)
    @contextmanager
    def debug_sql_uncounted(self: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
        token = inside_django_query.set(True)
        try:
            with debug_sql(self, *args, **kwargs):
                yield
        finally:
            inside_django_query.reset(token)

    setattr(debug_sql_uncounted, _MARK, True)
    CursorDebugWrapper.debug_sql = debug_sql_uncounted  # type: ignore[method-assign]


def wrap_connect(module: Any) -> None:
    """Wrap those methods of `django.db.backends.base.base.BaseDatabaseWrapper` that ask by themselves.

    What a connection asks for itself (time zone, isolation level, whether it is still usable) is no
    query of the request.
    """
    wrapper = module.BaseDatabaseWrapper
    for name in ("connect", "close_if_health_check_failed", "close_if_unusable_or_obsolete"):
        method = getattr(wrapper, name)
        if not hasattr(method, _MARK):
            setattr(wrapper, name, _uncounted(method, needs_connection=name != "connect"))


def _uncounted(method: Callable[..., Any], *, needs_connection: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    def call_uncounted(self: Any) -> Any:
        if needs_connection and self.connection is None:
            return method(self)
        token = inside_django_query.set(True)
        try:
            return method(self)
        finally:
            inside_django_query.reset(token)

    setattr(call_uncounted, _MARK, True)
    return call_uncounted


def _watch_new(connection: Any, **_: object) -> None:
    _watch(connection)


def _watch(connection: Any) -> None:
    if _count_query not in connection.execute_wrappers:
        # First is outermost: the time of other wrappers is time that the query took.
        connection.execute_wrappers.insert(0, _count_query)


def _count_query(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
) -> Any:
    scope = open_scope()
    if scope is None:
        return execute(sql, params, many, context)
    failed = True
    # Without the drivers' instrumentation no span can be made in here, and nothing need be marked.
    marks = _mark(scope) if "opentelemetry.instrumentation.dbapi" in sys.modules else None
    run = sql_comments.commenting(execute, scope) if sql_comments.is_wanted else execute
    started_ns = time.perf_counter_ns()
    try:
        result = run(sql, params, many, context)
        failed = False
        return result
    finally:
        elapsed_ns = time.perf_counter_ns() - started_ns
        if marks is not None:
            error = sys.exc_info()[0] if failed else None
            _unmark(*marks, elapsed_ns, context, sql, params, error)
        # psycopg accepts composed SQL objects, which need not be hashable.
        scope.add_query(sql if isinstance(sql, str) else str(sql), elapsed_ns, failed)


def _mark(scope: RequestScope) -> _Marks:
    """Say that what a driver does now is Django's query, and keep it from making spans for nobody."""
    if scope.root.is_recorded:
        spans = DriverSpans()
        return inside_django_query.set(spans), None, spans
    # Without an export a driver's span serves nobody: what was to be counted of it is counted here.
    return inside_django_query.set(True), _attach_quiet(scope), None


def _unmark(
    inside: _InsideToken,
    quiet: Token[Context] | None,
    spans: DriverSpans | None,
    *query: Any,
) -> None:
    if quiet is not None:
        otel_context.detach(quiet)
    elif spans is not None and not spans.made:
        _make_missing_span(*query)
    inside_django_query.reset(inside)


@fenced("making the span of a query")
def _make_missing_span(
    elapsed_ns: int, context: Any, sql: Any, params: Any, error: type[BaseException] | None
) -> None:
    if server_cursors.is_missed(context):
        server_cursors.make_span(
            *(context, sql, params, time.time_ns() - elapsed_ns),
            error.__name__ if error is not None else None,
        )


def _attach_quiet(scope: RequestScope) -> Token[Context]:
    root = scope.root
    if root.quiet is None:
        with suppress_instrumentation():
            root.quiet = otel_context.get_current()
    return otel_context.attach(root.quiet)
