"""Counts the queries that Django runs, on every alias, and makes their spans.

Lives where the app is loaded. One counter per connection stands first in Django's own `execute_wrappers`,
which every query through a cursor of Django's passes, server-side cursors of psycopg 3 included. Rows are
counted where Django's cursors fetch them. What an app does with the driver's own cursor or connection
(`connection.connection`, `cursor.cursor`, `copy`) passes neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from otel_canonical.django import databases
from otel_canonical.internal_errors import guarded, guarded_call, report_caught
from otel_canonical.otel import query_spans, sql_comments
from otel_canonical.otel.prepared_spans import made
from otel_canonical.otel.query_spans import ConnectionFacts, carried_scope
from otel_canonical.patching import patch, supply
from otel_canonical.request import slow_queries
from otel_canonical.request.query_tally import QueryTally
from otel_canonical.request.scope import RequestScope, current_scope
from otel_canonical.request.slow_queries import SlowQuery, explaining

#: A step of Django's `execute_wrappers`.
Execute = Callable[[Any, Any, bool, Any], Any]

#: Where a connection of Django's keeps its counter; `fetchmany` spells it out.
COUNTER = "_otel_canonical_queries"


class QueryCounter:
    """Counts the queries of one connection of Django's, unless it is quiet.

    Quiet is a connection that is being opened, checked, or told to begin or end a transaction: what it
    asks then is no query of the app.
    """

    __slots__ = ("facts", "is_quiet")

    def __init__(self) -> None:
        self.is_quiet = False
        #: What spans say of the connection, found out when the first one is made.
        self.facts: ConnectionFacts | None = None

    def count(self, execute: Execute, sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Run a query, as one of Django's `execute_wrappers`."""
        if self.is_quiet:
            return execute(sql, params, many, context)
        scope = current_scope.get() or carried_scope()
        if scope is None or not scope.is_open:
            return self._run_outside(execute, sql, params, many, context)
        run = sql_comments.commenting(execute, scope) if sql_comments.is_wanted else execute
        if scope.root.is_recorded and query_spans.are_made():
            return self._run_in_span(run, scope, sql, params, many, context)
        failed = True
        started_ns = time.perf_counter_ns()
        slot = scope.slot
        # A copy of `Slot.begin_query`, without its call. On Linux this clock is the monotonic one.
        if slot is not None and slot.started_ns == scope.started_ns and type(sql) is str:
            slot.halves[slot.sql_at] = slot.sql_texts[sql]
            slot.words[slot.since_at] = started_ns
        try:
            result = run(sql, params, many, context)
            failed = False
            return result
        finally:
            elapsed_ns = time.perf_counter_ns() - started_ns
            # As `RequestScope.add_query` does, without its call: this runs for every query.
            if scope.is_open:
                queries = scope.queries or scope.query_tally()
                text = sql if type(sql) is str else text_of(sql, context)
                queries.add_query(text, elapsed_ns, failed)
                scope.accounted_ns += elapsed_ns
                if elapsed_ns > explaining.slow_ns and not (many or failed):
                    _note_slow(queries, context, text, params, elapsed_ns)
                slot = scope.slot
                # A copy of `Slot.set_queries`, without its call.
                if slot is not None and slot.started_ns == scope.started_ns:
                    slot.halves[slot.queries_at] = queries.count & 0xFFFFFFFF
                    slot.words[slot.since_at] = 0

    def _run_in_span(
        self,
        run: Execute,
        scope: RequestScope | None,
        sql: Any,
        params: Any,
        many: bool,
        context: Any,
    ) -> Any:
        text = sql if type(sql) is str else text_of(sql, context)
        span = None
        try:
            facts = self.facts
            if facts is None:
                facts = query_spans.facts_of(databases.server_of(context["connection"]))
                self.facts = facts
            span = query_spans.start(
                facts, text, scope, is_procedure=context.get("is_procedure", False)
            )
        except Exception as error:  # noqa: BLE001  # a fence, see `report_caught`: samplers may be anybody's
            report_caught("starting the span of a query", error)
        failed = True
        started_ns = time.perf_counter_ns()
        slot = scope.slot if scope is not None else None
        if slot is not None and scope is not None:
            slot.begin_query(scope.started_ns, started_ns, slot.sql_texts[text])
        try:
            result = run(sql, params, many, context)
            failed = False
            return result
        except BaseException as error:
            if span is not None:
                span = made(span)
                query_spans.fail(span, databases.failure_of(error))
            raise
        finally:
            elapsed_ns = time.perf_counter_ns() - started_ns
            slow: SlowQuery | None = None
            if scope is not None:
                scope.add_query(text, elapsed_ns, failed)
                if elapsed_ns > explaining.slow_ns and not (many or failed) and scope.is_open:
                    slow = _note_slow(scope.query_tally(), context, text, params, elapsed_ns)
            if span is not None:
                if slow is not None and scope is not None and scope.root.is_exported:
                    # Ended when its plan is known, or there will be none.
                    slow.span, slow.ended_wall_ns = made(span), time.time_ns()
                else:
                    span.end()

    def _run_outside(
        self, execute: Execute, sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        """Run a query of no open request."""
        if query_spans.are_made() and query_spans.are_wanted_outside_requests():
            return self._run_in_span(execute, None, sql, params, many, context)
        return execute(sql, params, many, context)


def counter_of(connection: Any) -> QueryCounter:
    """Return the counter of a connection of Django's; made, and put in front, if there is none."""
    counter: QueryCounter | None = getattr(connection, COUNTER, None)
    if counter is None:
        counter = QueryCounter()
        vars(connection)[COUNTER] = counter
    if counter.count not in connection.execute_wrappers:
        # First is outermost: the time of other wrappers is time that the query took.
        connection.execute_wrappers.insert(0, counter.count)
    return counter


@guarded_call("noting a slow query")
def _note_slow(
    queries: QueryTally, context: Any, text: str, params: Any, elapsed_ns: int
) -> SlowQuery | None:
    return slow_queries.note(queries, context["connection"].alias, text, params, elapsed_ns)


def text_of(sql: Any, context: Any) -> str:
    """Return the text of SQL that isn't a string: psycopg's composed SQL, or bytes."""
    with guarded("reading the text of a query"):
        if isinstance(sql, bytes):
            return sql.decode("utf-8", "replace")
        if hasattr(sql, "as_string"):
            return str(sql.as_string(context["cursor"].cursor))
    return str(sql)


def wrap_cursors(module: Any) -> None:
    """Patch `django.db.backends.utils.CursorWrapper`: fetching, and calls of procedures.

    Its fetching methods are the driver's, looked up by `__getattr__` each time. Methods of its own are not
    dearer than that: 3,347 ns for a look-up by key where stock took 3,590. Errors pass Django's own
    `wrap_database_errors`, as in its `__getattr__`; to enter and leave that costs 1,900 instructions, so
    only errors do.
    """
    cursor_class = module.CursorWrapper
    patch(cursor_class, "callproc", _counting_procedure)
    patch(cursor_class, "__iter__", _counting_iteration)
    for method in (fetchone, fetchmany, fetchall):
        supply(cursor_class, method.__name__, method)


def _counting_procedure(callproc: Callable[..., Any]) -> Callable[..., Any]:
    def callproc_counted(self: Any, procname: Any, params: Any = None, kparams: Any = None) -> Any:
        counter: QueryCounter | None = getattr(self.db, COUNTER, None)
        if counter is None:
            return callproc(self, procname, params, kparams)

        def execute(sql: Any, params: Any, many: bool, context: Any) -> Any:
            return callproc(self, sql, params, kparams)

        context = {"connection": self.db, "cursor": self, "is_procedure": True}
        return counter.count(execute, procname, params, False, context)

    return callproc_counted


#: Stands for the size that a driver takes if it is given none.
_DRIVERS_OWN = object()


def fetchone(self: Any) -> Any:
    """Fetch a row (a method of Django's cursor, which does so through `__getattr__`)."""
    started_ns = time.perf_counter_ns()
    try:
        row = self.cursor.fetchone()
    except Exception:
        with self.db.wrap_database_errors:
            raise
    scope = current_scope.get() or carried_scope()
    if scope is not None:
        _add_rows(self, scope, time.perf_counter_ns() - started_ns, row is not None)
    return row


def fetchmany(self: Any, size: Any = _DRIVERS_OWN) -> Any:
    """Fetch some rows (see `fetchone`)."""
    started_ns = time.perf_counter_ns()
    try:
        rows = self.cursor.fetchmany() if size is _DRIVERS_OWN else self.cursor.fetchmany(size)
    except Exception:
        with self.db.wrap_database_errors:
            raise
    scope = current_scope.get() or carried_scope()
    if scope is not None and scope.is_open:
        # A copy of `_add_rows`, without its call: the ORM fetches each query's rows so.
        try:
            is_quiet = self.db._otel_canonical_queries.is_quiet
        except AttributeError:
            is_quiet = False
        if not is_quiet:
            queries = scope.queries or scope.query_tally()
            elapsed_ns = time.perf_counter_ns() - started_ns
            queries.fetch_ns += elapsed_ns
            scope.accounted_ns += elapsed_ns
            queries.rows += len(rows)
    return rows


def fetchall(self: Any) -> Any:
    """Fetch the rest of the rows (see `fetchone`)."""
    started_ns = time.perf_counter_ns()
    try:
        rows = self.cursor.fetchall()
    except Exception:
        with self.db.wrap_database_errors:
            raise
    scope = current_scope.get() or carried_scope()
    if scope is not None:
        _add_rows(self, scope, time.perf_counter_ns() - started_ns, len(rows))
    return rows


def _counting_iteration(iterate: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
    # Raw cursors and `RawQuerySet` only: the ORM fetches in portions.
    def iterate_counted(self: Any) -> Iterator[Any]:
        scope = current_scope.get() or carried_scope()
        rows = iterate(self)
        if scope is None or not scope.is_open:
            yield from rows
            return
        count = elapsed_ns = 0
        try:
            while True:
                started_ns = time.perf_counter_ns()
                try:
                    row = next(rows)
                except StopIteration:
                    return
                finally:
                    elapsed_ns += time.perf_counter_ns() - started_ns
                count += 1
                yield row
        finally:
            _add_rows(self, scope, elapsed_ns, count)

    return iterate_counted


def _add_rows(cursor: Any, scope: RequestScope, elapsed_ns: int, rows: int) -> None:
    counter = getattr(cursor.db, COUNTER, None)
    if scope.is_open and (counter is None or not counter.is_quiet):
        queries = scope.queries or scope.query_tally()
        queries.fetch_ns += elapsed_ns
        scope.accounted_ns += elapsed_ns
        queries.rows += rows
