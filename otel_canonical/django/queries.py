"""Counts the queries that Django runs, on every database alias, whoever else watches them.

Lives where the app is loaded. Django's own `execute_wrappers` see what spans don't (psycopg 3's
server-side cursors) and everything under DEBUG; so queries are counted here, and spans that a
driver's instrumentation makes of the same queries are not counted again.
"""

from __future__ import annotations

import _thread
import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorDebugWrapper

from otel_canonical.django import server_cursors
from otel_canonical.internal_errors import guarded_call
from otel_canonical.otel import sql_comments
from otel_canonical.otel.current_query import (
    INTERNAL,
    UNRECORDED,
    Query,
    RecordedQuery,
    current_query,
)
from otel_canonical.patching import patch
from otel_canonical.request.scope import current_scope

_HEALTH_CHECK = "close_if_health_check_failed"


def watch_connections() -> None:
    """Watch every connection there is and every one to come."""
    # On SQLite Django asks the database how to quote parameters, to show a query under DEBUG.
    patch(CursorDebugWrapper, "debug_sql", _uncounted_debugging)
    connection_created.connect(_watch, dispatch_uid="otel_canonical.django.queries")
    for connection in connections.all(initialized_only=True):
        _watch(connection)


def _uncounted_debugging(
    debug_sql: Callable[..., AbstractContextManager[None]],
) -> Callable[..., AbstractContextManager[None]]:
    @contextmanager
    def debug_sql_uncounted(self: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
        outer = current_query.enter(INTERNAL)
        try:
            with debug_sql(self, *args, **kwargs):
                yield
        finally:
            current_query.leave(outer)

    return debug_sql_uncounted


def wrap_connect(module: Any) -> None:
    """Patch those methods of `django.db.backends.base.base.BaseDatabaseWrapper` that ask by themselves.

    What a connection asks for itself (time zone, isolation level, whether it is still usable) is no
    query of the request.
    """
    for name in ("connect", _HEALTH_CHECK, "close_if_unusable_or_obsolete"):
        patch(module.BaseDatabaseWrapper, name, functools.partial(_uncounted, name))


def _uncounted(name: str, method: Callable[[Any], Any]) -> Callable[[Any], Any]:
    needs_connection = name != "connect"
    is_health_check = name == _HEALTH_CHECK

    def call_uncounted(self: Any) -> Any:
        # Where nothing is asked there is nothing to keep from being counted: this runs for every cursor,
        # and a connection's health is checked once in a request, if at all.
        if (needs_connection and self.connection is None) or (
            is_health_check and (self.health_check_done or not self.health_check_enabled)
        ):
            return method(self)
        # As `enter` and `leave` do, without their calls.
        me = _thread.get_ident()
        outer = current_query[me] if me in current_query else None  # noqa: SIM401
        current_query[me] = INTERNAL
        try:
            return method(self)
        finally:
            if outer is not None:
                current_query[me] = outer
            elif me in current_query:
                del current_query[me]

    return call_uncounted


def _watch(connection: Any, **_: object) -> None:
    if _count_query not in connection.execute_wrappers:
        # First is outermost: the time of other wrappers is time that the query took.
        connection.execute_wrappers.insert(0, _count_query)


def _count_query(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
) -> Any:
    # As `open_scope` does, without its call: this runs for every query.
    scope = current_scope.get()
    if scope is None or not scope.is_open:
        return execute(sql, params, many, context)
    run = sql_comments.commenting(execute, scope) if sql_comments.is_wanted else execute
    failed = True
    query: Query | None = None
    outer: Query | None = None
    # Before the mark: whatever were to fail between that and the query would leave it behind.
    started_ns = time.perf_counter_ns()
    slot = scope.slot
    # A copy of `Slot.begin_query`, without its call. On Linux this clock is the monotonic one.
    if slot is not None and slot.started_ns == scope.started_ns and type(sql) is str:
        slot.halves[slot.sql_at] = slot.sql_texts[sql]
        slot.words[slot.since_at] = started_ns
    # Without the drivers' instrumentation no span can be made in here.
    if "opentelemetry.instrumentation.dbapi" in sys.modules:
        query = RecordedQuery() if scope.root.is_recorded else UNRECORDED
        # As `enter` and `leave` do, without their calls.
        me = _thread.get_ident()
        outer = current_query[me] if me in current_query else None  # noqa: SIM401
        current_query[me] = query
    try:
        result = run(sql, params, many, context)
        failed = False
        return result
    finally:
        # No call before this: a signal's handler may raise in one, and the mark must go even then.
        try:
            elapsed_ns = time.perf_counter_ns() - started_ns
            if type(query) is RecordedQuery and not query.has_span:
                error = sys.exc_info()[0] if failed else None
                _make_missing_span(elapsed_ns, context, sql, params, error)
        finally:
            if outer is not None:
                current_query[me] = outer
            elif query is not None and me in current_query:
                del current_query[me]
        # psycopg accepts composed SQL objects, which need not be hashable.
        scope.add_query(sql if type(sql) is str else str(sql), elapsed_ns, failed)


@guarded_call("making the span of a query")
def _make_missing_span(
    elapsed_ns: int, context: Any, sql: Any, params: Any, error: type[BaseException] | None
) -> None:
    if server_cursors.is_missed(context):
        server_cursors.make_span(
            *(context, sql, params, time.time_ns() - elapsed_ns),
            error.__name__ if error is not None else None,
        )
