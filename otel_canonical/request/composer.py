"""Composes the event of a scope: which keys, in which order, redacted. Pure.

Runs once per request, after the last byte. `request_event` and `event.rows`, read from top to bottom,
are the order of the line. Facts that few requests have are pairs instead of rows.
"""

from __future__ import annotations

import functools
import time

from otel_canonical.event.bounds import cut, limits
from otel_canonical.event.event import CanonicalEvent, EventType, Stacks, seconds, timestamp
from otel_canonical.event.fields import (
    APP_PREFIX,
    ERROR_STACK_ATTRIBUTE,
    STACK_ATTRIBUTE,
    FieldValue,
)
from otel_canonical.event.redaction import MARGIN, REDACTED, RedactionPolicy
from otel_canonical.event.rows import (
    CACHE,
    DETAILS,
    IDENTITY,
    LOOSE,
    POOL,
    POOL_WITH_QUEUES,
    REQUEST,
    RESPONSE,
    TEMPLATES,
    WORKER,
    FilledRow,
)
from otel_canonical.pool.scoreboard import PoolState
from otel_canonical.request.database_facts import add_database_facts, slow_query_details
from otel_canonical.request.headers import queue_time_s
from otel_canonical.request.scope import RequestScope
from otel_canonical.request.slow_queries import SlowQuery
from otel_canonical.settings import Settings
from otel_canonical.stacks import errors
from otel_canonical.stacks.errors import ErrorFacts
from otel_canonical.stacks.text import short

Pairs = list[tuple[str, FieldValue]]

#: Texts of the app up to this length are shown however many there are, in characters.
SHORT = 64


class Composer:
    """Composes events from scopes, under one redaction policy and the operator's choice of fields."""

    def __init__(self, settings: Settings, redaction: RedactionPolicy) -> None:
        self._settings = settings
        self._redaction = redaction

    def request_event(
        self, scope: RequestScope, event_type: EventType = EventType.REQUEST
    ) -> CanonicalEvent:
        """Return the event of a request that has ended or, for `slow`, is still running."""
        now_ns = time.time_ns()
        rows: list[FilledRow] = [
            self._identity(event_type, scope, now_ns),
            (REQUEST, self._request(scope)),
        ]
        started_ns = scope.started_ns
        if (
            scope.first_byte_ns is not None
            and scope.ended_ns is not None
            and scope.ended_cpu_ns is not None
            and scope.status is not None
            and scope.bytes_written is not None
        ):
            times = (
                (scope.ended_ns - started_ns) / 1e9,
                (scope.ended_cpu_ns - scope.started_cpu_ns) / 1e9,
                (scope.first_byte_ns - started_ns) / 1e9,
            )
            rows.append((RESPONSE, (scope.status, scope.bytes_written, *times)))
        else:
            rows.append((LOOSE, _partial_response(scope)))
        sample = scope.stuck or scope.slow
        stack: str | Stacks = ""
        if sample or scope.error or scope.client_gone or scope.lost_cause:
            rows.append((LOOSE, self._trouble(scope, event_type)))
            seen = sample.stack if sample is not None else ""
            stack = self._stack(scope, seen, is_last=event_type is not EventType.SLOW)
        _add_tallies(rows, scope)
        if scope.app is not None or scope.timers is not None:
            rows.append((LOOSE, self._app(scope)))
        if scope.pool is not None:
            rows.append(pool_row(scope.pool))
        if scope.pid is not None and scope.worker_requests is not None:
            rows.append((WORKER, (scope.pid, scope.worker_requests)))
        if self._settings.excluded_fields is None:
            return CanonicalEvent(event_type, rows, stack, now_ns)
        return self._event(event_type, rows, stack, now_ns)

    def least_event(self, scope: RequestScope, event_type: EventType) -> CanonicalEvent:
        """Return an event of ids and status only, for when the whole event can't be composed."""
        status: Pairs = [("resp_status", scope.status)] if scope.status is not None else []
        now_ns = time.time_ns()
        rows = [self._identity(event_type, scope, now_ns), (LOOSE, status)]
        return self._event(event_type, rows, "", now_ns)

    def partial_failure_event(self, scope: RequestScope, error: ErrorFacts) -> CanonicalEvent:
        """Return the event of a failure that the app survived, with the ids of its request."""
        now_ns = time.time_ns()
        rows = [
            self._identity(EventType.PARTIAL_FAILURE, scope, now_ns),
            (LOOSE, self._error(error)),
        ]
        stack = self._error_stack(error, "")
        return self._event(EventType.PARTIAL_FAILURE, rows, stack, now_ns)

    def slow_query_event(self, scope: RequestScope, query: SlowQuery, plan: str) -> CanonicalEvent:
        """Return the event of a slow query and its plan, with the ids of its request."""
        now_ns = time.time_ns()
        rows: list[FilledRow] = [
            self._identity(EventType.SLOW_QUERY, scope, now_ns),
            (DETAILS, slow_query_details(query, plan)),
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
            if row is DETAILS:
                kept.append((row, [value for value in values if not excluded.match(value[0])]))
            else:
                kept.append((LOOSE, without_excluded(list(row.pairs(values)), self._settings)))
        return CanonicalEvent(event_type, kept, stack, now_ns)

    def _identity(self, event_type: EventType, scope: RequestScope, now_ns: int) -> FilledRow:
        request_id, root = scope.request_id, scope.root
        if not root.trace_id or not request_id.isalnum():
            return LOOSE, _loose_identity(event_type, scope, now_ns)
        sampled = "true" if root.is_exported else "false"
        return IDENTITY, (
            # `value` itself is a function of Python's before 3.12.
            *(event_type._value_, timestamp(now_ns), request_id),
            *(root.trace_id, root.span_id, sampled),
        )

    def _request(self, scope: RequestScope) -> tuple[FieldValue | None, ...]:
        """Return the values of the row `REQUEST`; an empty value counts as absent."""
        redaction = self._redaction
        header = scope.headers.get
        path = scope.path
        if scope.url_kwargs or "eyJ" in path:  # a token
            path = redaction.path(path, scope.url_kwargs or {})
        query = referrer = None
        if self._settings.query_string and scope.query_string:
            query = redaction.query(scope.query_string)
        if sent_referrer := header("REFERER"):
            referrer = redaction.referrer(
                as_meant(sent_referrer), scope.host, scope.url_kwargs or {}
            )
        user_agent = header("USER-AGENT")
        if user_agent and not user_agent.isascii():
            user_agent = as_meant(user_agent)
        if user_agent and len(user_agent) > limits.value:
            user_agent = cut(user_agent)
        return (
            *(scope.method or None, path or None, scope.host or None, scope.scheme or None),
            *(scope.proto or None, query, scope.route, referrer, user_agent or None),
            *(scope.client or None, scope.content_length),
            queue_time_s(scope.headers, scope.started_wall_ns / 1e9)
            if scope.has_context_headers
            else None,
            *(scope.user_id, scope.view),
        )

    def _trouble(self, scope: RequestScope, event_type: EventType) -> Pairs:
        pairs: Pairs = []
        if scope.client_gone:
            pairs.append(("client_gone", True))
        _add_sightings(pairs, scope, event_type)
        if scope.lost_cause is not None and event_type is EventType.LOST:
            pairs.append(("lost_cause", scope.lost_cause))
        if scope.error is not None:
            pairs += self._error(scope.error)
        return pairs

    def _stack(self, scope: RequestScope, seen: str, *, is_last: bool) -> str | Stacks:
        error = scope.error
        if error is None:
            return seen
        if is_last:
            # From here on only the event refers to the exception, and the event is soon gone.
            scope.error = error.without_stack()
        return self._error_stack(error, seen)

    def _error_stack(self, error: ErrorFacts, seen: str) -> str | Stacks:
        excluded = self._settings.excluded_fields
        # A stack ends with the exception's message.
        if error.raised is None or (excluded is not None and excluded.match("exc_msg")):
            return seen
        return functools.partial(self._stacks, error.raised, seen)

    def _stacks(self, error: BaseException, seen: str) -> dict[str, str]:
        stacks = {ERROR_STACK_ATTRIBUTE: errors.stack_of(error, self._redaction.text)}
        if seen:
            stacks[STACK_ATTRIBUTE] = seen
        return stacks

    def _error(self, error: ErrorFacts) -> Pairs:
        pairs: Pairs = [("exc_type", error.type)]
        if error.message:
            pairs.append(("exc_msg", self._redaction.text(error.message)))
        if error.loc is not None:
            pairs.append(("exc_loc", error.loc))
        if error.cause_loc is not None:
            pairs.append(("exc_cause_loc", error.cause_loc))
        if error.template is not None:
            pairs.append(("exc_template", error.template))
        return pairs

    def _app(self, scope: RequestScope) -> Pairs:
        # Copied: a thread that the request left behind may still be setting facts.
        facts: dict[str, FieldValue] = {}
        for key, timer in list((scope.timers or {}).items()):
            facts[f"{key}_time"] = seconds(timer.elapsed_ns)
            if timer.count > 1:
                facts[f"{key}_count"] = timer.count
        left = limits.event // 8
        for key, value in list((scope.app or {}).items()):
            if type(value) is not str or len(value) <= SHORT:
                facts[key] = self._redaction.value(key, value)
                continue
            # All long texts together are bounded, too: each is searched for secrets.
            if left > 0:
                left -= len(value)
                facts[key] = self._redaction.value(key, value)
            elif self._redaction.is_secret(key):
                facts[key] = REDACTED
            else:
                facts[key] = self._redaction.text(value, SHORT, SHORT)
        return [(APP_PREFIX + key, value) for key, value in facts.items()]


def _loose_identity(event_type: EventType, scope: RequestScope, now_ns: int) -> Pairs:
    pairs: Pairs = [
        ("event_type", event_type.value),
        ("ts", timestamp(now_ns)),
        ("req_id", scope.request_id),
    ]
    root = scope.root
    if root.trace_id:
        pairs.append(("trace_id", root.trace_id))
        pairs.append(("span_id", root.span_id))
        pairs.append(("sampled", root.is_exported))
    return pairs


def _partial_response(scope: RequestScope) -> Pairs:
    """Return those facts of the row `RESPONSE` that are known."""
    pairs: Pairs = []
    if scope.status is not None:
        pairs.append(("resp_status", scope.status))
    if scope.bytes_written is not None:
        pairs.append(("resp_bytes", scope.bytes_written))
    if scope.ended_ns is not None:
        pairs.append(("resp_time", seconds(scope.ended_ns - scope.started_ns)))
    if scope.ended_cpu_ns is not None:
        pairs.append(("resp_cpu_time", seconds(scope.ended_cpu_ns - scope.started_cpu_ns)))
    if scope.first_byte_ns is not None:
        pairs.append(("resp_ttfb", seconds(scope.first_byte_ns - scope.started_ns)))
    return pairs


def _add_sightings(pairs: Pairs, scope: RequestScope, event_type: EventType) -> None:
    stuck, slow = scope.stuck, scope.slow
    if stuck is not None:
        if event_type is EventType.REQUEST:
            pairs.append(("deadline_exceeded", True))
        if stuck.loc is not None:
            pairs.append(("timeout_loc", stuck.loc))
        if stuck.cause_loc is not None:
            pairs.append(("timeout_cause_loc", stuck.cause_loc))
        pairs.append(("timeout_seen", seconds(stuck.seen_ns - scope.started_ns)))
    if slow is not None and slow.cause_loc is not None:
        if slow.loc is not None:
            pairs.append(("slow_loc", slow.loc))
        pairs.append(("slow_cause_loc", slow.cause_loc))
        if event_type is EventType.SLOW:
            pairs.append(("slow_stack", short(slow.stack)))


def without_excluded(pairs: Pairs, settings: Settings) -> tuple[tuple[str, FieldValue], ...]:
    """Return the pairs that the operator has not excluded; `event_type` is always kept."""
    excluded = settings.excluded_fields
    if excluded is not None:
        pairs = [pair for pair in pairs if pair[0] == "event_type" or not excluded.match(pair[0])]
    return tuple(pairs)


def pool_row(pool: PoolState) -> FilledRow:
    """Return how full the pool was. What is unknown is left out, never shown as 0."""
    if pool.backlog is not None and pool.slots is not None:
        values = (
            *(pool.workers, pool.active_workers, pool.backlog),
            *(pool.slots, pool.active_slots),
        )
        if pool.waiting is None:
            return POOL, values
        return POOL_WITH_QUEUES, (*values, pool.waiting)
    pairs: Pairs = [("g_w_count", pool.workers), ("g_w_active", pool.active_workers)]
    if pool.backlog is not None:
        pairs.append(("g_backlog", pool.backlog))
    if pool.slots is not None:
        pairs.append(("g_t_count", pool.slots))
    pairs.append(("g_t_active", pool.active_slots))
    if pool.waiting is not None:
        pairs.append(("g_t_waiting", pool.waiting))
    return LOOSE, pairs


def _add_tallies(rows: list[FilledRow], scope: RequestScope) -> None:
    if scope.queries is not None:
        add_database_facts(rows, scope.queries)
    if scope.template_renders:
        rows.append((TEMPLATES, (scope.template_renders, scope.template_ns / 1e9)))
    if scope.calls is not None:
        pairs: Pairs = []
        # HTTP first, then the others in the order in which they were called.
        for system, calls in sorted(scope.calls.items(), key=lambda call: call[0] != "http"):
            pairs.append((f"{system}_calls", calls.count))
            pairs.append((f"{system}_time", seconds(calls.elapsed_ns)))
            if calls.errors:
                pairs.append((f"{system}_errors", calls.errors))
        rows.append((LOOSE, pairs))
    if scope.cache_hits or scope.cache_misses:
        rows.append((CACHE, (scope.cache_hits, scope.cache_misses, scope.cache_ns / 1e9)))


def as_meant(text: str) -> str:
    """Return a text that WSGI has decoded as Latin-1, decoded as UTF-8; what is never shown is left out."""
    text = text[: 4 * limits.value + MARGIN]
    if text.isascii():
        return text
    return text.encode("latin-1", "replace").decode("utf-8", "replace")
