"""Fetches the plans of slow queries, in a thread of its own, after the responses are out.

One plan at a time, a few a minute, each within a time limit: a database that is in trouble gets no more
work from here. A fetch that hangs is abandoned with its thread, and no other is begun until it returns.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_canonical.internal_errors import guarded, warn
from otel_canonical.request.query_tally import shape_of
from otel_canonical.request.scope import RequestScope
from otel_canonical.request.slow_queries import Plan, SlowQuery, explaining

#: Slow queries that wait; more are dropped.
MOST_WAITING = 8

#: The least time between two plans, and between two of queries of one shape.
INTERVAL_S, SAME_QUERY_INTERVAL_S = 1.0, 60.0

#: How long a fetch may take. The database has a limit of its own, which is shorter.
PATIENCE_S = 5.0

#: The most shapes whose last plan is remembered.
MOST_SHAPES = 500

#: Called with a request that has ended, its slow query and the plan.
Report = Callable[[RequestScope, SlowQuery, str], None]


class PlanWorker:
    """Fetches plans and hands them to `report`."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._waiting: queue.Queue[tuple[RequestScope, SlowQuery] | None] = queue.Queue(
            MOST_WAITING
        )
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._explained: dict[str, float] = {}
        self._fetching: threading.Thread | None = None

    def take(self, scope: RequestScope) -> None:
        """Take the slow queries of a request that has ended; never waits."""
        if scope.queries is None:
            return
        slow, scope.queries.slow = scope.queries.slow, []
        for query in slow:
            if self._stopping.is_set() or not self._is_due(query):
                query.end_span()
                continue
            try:
                self._waiting.put_nowait((scope, query))
            except queue.Full:
                query.end_span()
                continue
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="otel-canonical-plans", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Stop: what still waits gets no plan, and its spans end now."""
        self._stopping.set()
        while True:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                item[1].end_span()
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(PATIENCE_S)

    def _is_due(self, query: SlowQuery) -> bool:
        now = time.monotonic()
        shape = shape_of(query.sql)
        last = self._explained.get(shape)
        if last is not None and now - last < SAME_QUERY_INTERVAL_S:
            return False
        if len(self._explained) >= MOST_SHAPES:
            self._explained.clear()
        self._explained[shape] = now
        return True

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            scope, query = item
            plan: str | None = None
            with guarded("fetching the plan of a query"):
                plan = self._fetch(query)
            query.end_span(plan)
            if plan is not None:
                with guarded("reporting a slow query"):
                    self._report(scope, query, plan)
            del item, scope, query
            self._stopping.wait(INTERVAL_S)

    def _fetch(self, query: SlowQuery) -> str | None:
        fetch = explaining.fetch
        if fetch is None or (self._fetching is not None and self._fetching.is_alive()):
            return None
        found: list[Plan] = []

        def run() -> None:
            # With OpenTelemetry's threading instrumentation this thread has the request's context.
            with suppress_instrumentation():
                found.append(fetch(query))

        self._fetching = threading.Thread(target=run, name="otel-canonical-plan", daemon=True)
        self._fetching.start()
        self._fetching.join(PATIENCE_S)
        if not found:
            warn(f"no plan of a slow query on {query.alias!r} within {PATIENCE_S:.0f} s")
            return None
        if found[0].why_not:
            warn(f"no plan of a slow query on {query.alias!r}: {found[0].why_not}")
            return None
        return found[0].text
