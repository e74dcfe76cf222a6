"""Composes the event of a scope: which keys, in which order, redacted. Pure.

Runs once per request, after the last byte. `request_event` and `event.rows`, read from top to bottom,
are the order of the line. Facts that few requests have are pairs instead of rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from otel_canonical.event.chosen_fields import without_excluded
from otel_canonical.event.event import CanonicalEvent, EventType, Stacks, timestamp
from otel_canonical.event.fields import FieldValue
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.event.rows import (
    CACHE,
    DETAILS,
    LAST,
    LOOSE,
    TEMPLATES,
    TRACED_LAST,
    TRACED_WHOLE,
    USUAL,
    WHOLE,
    FilledRow,
    Written,
    seconds,
)
from otel_canonical.pool.open_routes import shown_route, shown_routes
from otel_canonical.pool.scoreboard import PoolState
from otel_canonical.request.database_facts import (
    NAMED_QUERIES,
    add_database_facts,
    slow_query_details,
)
from otel_canonical.request.failure_facts import FailureFacts
from otel_canonical.request.first_facts import FirstFacts, rows_apart
from otel_canonical.request.pool_facts import pool_row
from otel_canonical.request.scope import RequestScope
from otel_canonical.request.shown_app_facts import app_pairs
from otel_canonical.request.slow_queries import SlowQuery
from otel_canonical.request.tallies import CallTally
from otel_canonical.request.time_facts import add_surprises
from otel_canonical.settings import Settings
from otel_canonical.stacks.errors import ErrorFacts

Pairs = list[tuple[str, FieldValue]]

#: Look-ups that took less and found out nothing are left out: of no keys, for example.
SHOWN_CACHE_NS = 100_000


class Composer:
    """Composes events from scopes, under one redaction policy and the operator's choice of fields."""

    def __init__(self, settings: Settings, redaction: RedactionPolicy) -> None:
        self._settings = settings
        self._redaction = redaction
        self._first_facts = FirstFacts(settings, redaction)
        self._failures = FailureFacts(settings, redaction)
        #: The state of the pool that the last event had, and how it is written: most have the same.
        self._last_pool: tuple[PoolState | None, Written | None] = (None, None)

    def request_event(
        self, scope: RequestScope, event_type: EventType = EventType.REQUEST
    ) -> CanonicalEvent:
        """Return the event of a request that has ended or, for `slow`, is still running."""
        now_ns = time.time_ns()
        read = self._first_facts.read(scope, event_type, now_ns)
        values, has_plain_head, has_whole_response, overlap_ns = read
        sample = scope.stuck or scope.slow
        stack: str | Stacks = ""
        rows: list[FilledRow]
        if sample or scope.error or scope.client_gone or scope.lost_cause:
            failures = LOOSE, self._failures.pairs(scope, event_type)
            rows = rows_apart(values, failures, has_plain_head=has_plain_head)
            seen = sample.stack if sample is not None else ""
            is_last = event_type is not EventType.SLOW
            stack = self._failures.stack(scope, seen, is_last=is_last)
        elif has_plain_head and has_whole_response:
            rows = [(USUAL, values)]
        else:
            rows = rows_apart(values, None, has_plain_head=has_plain_head)
        add_surprises(rows, scope, overlap_ns)
        if scope.queries is not None:
            add_database_facts(rows, scope.queries)
        if scope.template_renders:
            rows.append((TEMPLATES, (scope.template_renders, scope.template_ns)))
        if scope.calls is not None:
            rows.append((LOOSE, _call_pairs(scope.calls)))
        # A look-up that failed is neither, but may have taken long.
        if scope.cache_hits or scope.cache_misses or scope.cache_ns >= SHOWN_CACHE_NS:
            rows.append((CACHE, (scope.cache_hits, scope.cache_misses, scope.cache_ns)))
        if scope.app is not None or scope.timers is not None:
            rows.append((LOOSE, app_pairs(scope, self._redaction)))
        if scope.neighbours is not None:
            counts = scope.neighbours + Counter([shown_route(scope.route)])
            rows.append((LOOSE, [("g_open", shown_routes(counts))]))
        pool, root, request_id = scope.pool, scope.root, scope.request_id
        pid, worker_requests = scope.pid, scope.worker_requests
        if (
            pool is None
            or pid is None
            or worker_requests is None
            # Most were made by us.
            or (scope.has_context_headers and not request_id.isalnum())
        ):
            if pool is not None:
                rows.append(pool_row(pool))
            rows.append(_known_ids(scope))
        else:
            known_pool, written = self._last_pool
            if pool is not known_pool:
                written = Written.of(*pool_row(pool))
                self._last_pool = pool, written
            last: tuple[Any, ...] = written, pid, worker_requests, request_id
            row, whole_row = LAST, WHOLE
            if root.is_named:
                sampled = "true" if root.is_exported else "false"
                last += root.trace_id, root.span_id, sampled
                row, whole_row = TRACED_LAST, TRACED_WHOLE
            if len(rows) == 1 and has_plain_head and has_whole_response and not stack:
                rows = [(whole_row, values + last)]
            else:
                rows.append((row, last))
        if self._settings.excluded_fields is None:
            return CanonicalEvent(event_type, rows, stack, now_ns)
        return self._event(event_type, rows, stack, now_ns)

    def least_event(self, scope: RequestScope, event_type: EventType) -> CanonicalEvent:
        """Return an event of ids and status only, for when the whole event can't be composed."""
        now_ns = time.time_ns()
        head = _start(event_type, now_ns)
        if scope.status is not None:
            head.append(("resp_status", scope.status))
        return self._event(event_type, [(LOOSE, head), _bare_ids(scope)], "", now_ns)

    def partial_failure_event(self, scope: RequestScope, error: ErrorFacts) -> CanonicalEvent:
        """Return the event of a failure that the app survived, with the ids of its request."""
        now_ns = time.time_ns()
        rows: list[FilledRow] = [
            (LOOSE, _start(EventType.PARTIAL_FAILURE, now_ns)),
            (LOOSE, self._failures.of_error(error)),
            _bare_ids(scope),
        ]
        stack = self._failures.error_stack(error, "")
        return self._event(EventType.PARTIAL_FAILURE, rows, stack, now_ns)

    def slow_query_event(self, scope: RequestScope, query: SlowQuery, plan: str) -> CanonicalEvent:
        """Return the event of a slow query and its plan, with the ids of its request."""
        now_ns = time.time_ns()
        rows: list[FilledRow] = [
            (LOOSE, _start(EventType.SLOW_QUERY, now_ns)),
            (DETAILS, slow_query_details(query, plan)),
            _bare_ids(scope),
        ]
        return self._event(EventType.SLOW_QUERY, rows, "", now_ns)

    def _event(
        self, event_type: EventType, rows: list[FilledRow], stack: str | Stacks, now_ns: int
    ) -> CanonicalEvent:
        excluded = self._settings.excluded_fields
        if excluded is None:
            return CanonicalEvent(event_type, rows, stack, now_ns)
        kept: list[FilledRow] = []
        for row, values in rows:
            if row is NAMED_QUERIES:
                row, values = DETAILS, NAMED_QUERIES.details(values)
            if row is DETAILS:
                kept.append((row, [value for value in values if not excluded.match(value[0])]))
            else:
                kept.append((LOOSE, without_excluded(row.pairs(values), excluded)))
        return CanonicalEvent(event_type, kept, stack, now_ns)


def _start(event_type: EventType, now_ns: int) -> Pairs:
    return [("ts", timestamp(now_ns)), ("event_type", event_type.value)]


def _known_ids(scope: RequestScope) -> FilledRow:
    """Return what is known of the ids of the worker, the request and its trace."""
    worker: Pairs = []
    if scope.pid is not None and scope.worker_requests is not None:
        worker = [("g_pid", scope.pid), ("g_w_requests", scope.worker_requests)]
    return LOOSE, [*worker, *_bare_ids(scope)[1]]


def _bare_ids(scope: RequestScope) -> FilledRow:
    """Return the ids of a request and, where they name something, of its trace."""
    root = scope.root
    pairs: Pairs = [("req_id", scope.request_id)]
    if root.is_named:
        pairs.append(("trace_id", root.trace_id))
        pairs.append(("span_id", root.span_id))
        pairs.append(("sampled", root.is_exported))
    return LOOSE, pairs


def _call_pairs(calls: Mapping[str, CallTally]) -> Pairs:
    pairs: Pairs = []
    # HTTP first, then the others in the order in which they were called.
    for system, tally in sorted(calls.items(), key=lambda call: call[0] != "http"):
        pairs.append((f"{system}_calls", tally.count))
        pairs.append((f"{system}_time", seconds(tally.elapsed_ns)))
        if tally.errors:
            pairs.append((f"{system}_errors", tally.errors))
    return pairs
