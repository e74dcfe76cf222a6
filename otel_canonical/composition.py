"""How the facts of a scope become its event: which keys, in which order, redacted. Pure.

Runs once per request, after the last byte. It spells the keys out one by one instead of walking a
table: that is half the cost, and the order on the line can be read here from top to bottom.
"""

from __future__ import annotations

from otel_canonical import stack_text
from otel_canonical.error_facts import ErrorFacts
from otel_canonical.event import CanonicalEvent, EventType, seconds, timestamp
from otel_canonical.fields import APP_PREFIX, FieldValue
from otel_canonical.redaction import RedactionPolicy
from otel_canonical.request_ids import queue_time_s
from otel_canonical.request_scope import RequestScope
from otel_canonical.settings import Settings
from otel_canonical.shared_page import PoolState

Pairs = list[tuple[str, FieldValue]]


class Composer:
    """Makes events out of scopes, under one redaction policy and the operator's choice of fields."""

    def __init__(self, settings: Settings, redaction: RedactionPolicy) -> None:
        self._settings = settings
        self._redaction = redaction

    def request_event(
        self, scope: RequestScope, event_type: EventType = EventType.REQUEST
    ) -> CanonicalEvent:
        """Return the event of a request that has ended or, if it is `slow`, of one that runs."""
        pairs = self._identity(event_type, scope)
        self._add_request(pairs, scope)
        self._add_response(pairs, scope)
        if scope.stuck is not None or scope.slow is not None:
            _add_sightings(pairs, scope, event_type)
        if scope.error is not None:
            self._add_error(pairs, scope.error)
        _add_tallies(pairs, scope)
        if scope.app is not None or scope.timers is not None:
            self._add_app(pairs, scope)
        if scope.pool is not None:
            add_pool(pairs, scope.pool)
        if scope.pid is not None:
            pairs.append(("g_pid", scope.pid))
        if scope.worker_requests is not None:
            pairs.append(("g_w_requests", scope.worker_requests))
        sighting = scope.stuck or scope.slow
        return self._event(event_type, pairs, sighting.stack if sighting is not None else "")

    def least_event(self, scope: RequestScope, event_type: EventType) -> CanonicalEvent:
        """Return an event of nothing but ids and status, for when the whole one can't be made."""
        pairs = self._identity(event_type, scope)
        if scope.status is not None:
            pairs.append(("resp_status", scope.status))
        return self._event(event_type, pairs)

    def partial_failure_event(self, scope: RequestScope, error: ErrorFacts) -> CanonicalEvent:
        """Return the event of a failure that the app survived, joined to its request by ids."""
        pairs = self._identity(EventType.PARTIAL_FAILURE, scope)
        self._add_error(pairs, error)
        return self._event(EventType.PARTIAL_FAILURE, pairs)

    def _event(self, event_type: EventType, pairs: Pairs, stack: str = "") -> CanonicalEvent:
        return CanonicalEvent(event_type, without_excluded(pairs, self._settings), stack)

    def _identity(self, event_type: EventType, scope: RequestScope) -> Pairs:
        pairs: Pairs = [
            ("event_type", event_type.value),
            ("ts", timestamp()),
            ("req_id", scope.request_id),
        ]
        root = scope.root
        if root is not None and root.trace_id:
            pairs.append(("trace_id", root.trace_id))
            pairs.append(("span_id", root.span_id))
            pairs.append(("sampled", root.is_exported))
        return pairs

    def _add_request(self, pairs: Pairs, scope: RequestScope) -> None:
        redaction = self._redaction
        path = redaction.path(scope.path, scope.url_kwargs) if scope.url_kwargs else scope.path
        if scope.method:
            pairs.append(("req_method", scope.method))
        if path:
            pairs.append(("req_path", path))
        if scope.host:
            pairs.append(("req_host", scope.host))
        if scope.scheme:
            pairs.append(("req_scheme", scope.scheme))
        if scope.proto:
            pairs.append(("req_proto", scope.proto))
        if scope.query_string and self._settings.query_string:
            pairs.append(("req_query", redaction.query(scope.query_string)))
        if scope.route is not None:
            pairs.append(("req_route", scope.route))
        headers = scope.headers
        if referrer := headers.get("REFERER"):
            pairs.append(("req_referrer", redaction.url(as_meant(referrer))))
        if user_agent := headers.get("USER-AGENT"):
            pairs.append(("req_user_agent", as_meant(user_agent)))
        if scope.client:
            pairs.append(("req_client", scope.client))
        if scope.content_length is not None:
            pairs.append(("req_bytes", scope.content_length))
        waited_s = queue_time_s(headers, scope.started_wall_ns / 1e9)
        if waited_s is not None:
            pairs.append(("req_queue_time", waited_s))
        if scope.user_id is not None:
            pairs.append(("user_id", scope.user_id))

    def _add_response(self, pairs: Pairs, scope: RequestScope) -> None:
        if scope.view is not None:
            pairs.append(("resp_view", scope.view))
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
        if scope.client_gone:
            pairs.append(("client_gone", True))

    def _add_error(self, pairs: Pairs, error: ErrorFacts) -> None:
        pairs.append(("exc_type", error.type))
        if error.message:
            pairs.append(("exc_msg", self._redaction.text(error.message)))
        if error.loc is not None:
            pairs.append(("exc_loc", error.loc))
        if error.cause_loc is not None:
            pairs.append(("exc_cause_loc", error.cause_loc))
        if error.template is not None:
            pairs.append(("exc_template", error.template))

    def _add_app(self, pairs: Pairs, scope: RequestScope) -> None:
        # A copy: a thread that the request left behind may still be setting facts.
        facts: dict[str, FieldValue] = {}
        for key, timer in list((scope.timers or {}).items()):
            facts[f"{key}_time"] = seconds(timer.elapsed_ns)
            if timer.count > 1:
                facts[f"{key}_count"] = timer.count
        for key, value in list((scope.app or {}).items()):
            facts[key] = self._redaction.value(key, value)
        pairs.extend((APP_PREFIX + key, value) for key, value in facts.items())


def _add_sightings(pairs: Pairs, scope: RequestScope, event_type: EventType) -> None:
    stuck, slow = scope.stuck, scope.slow
    if stuck is not None:
        if event_type is EventType.REQUEST:
            pairs.append(("deadline_exceeded", True))
        if stuck.loc is not None and stuck.cause_loc is not None:
            pairs.append(("timeout_loc", stuck.loc))
            pairs.append(("timeout_cause_loc", stuck.cause_loc))
        pairs.append(("timeout_seen", seconds(stuck.seen_ns - scope.started_ns)))
    if slow is not None and slow.loc is not None and slow.cause_loc is not None:
        pairs.append(("slow_loc", slow.loc))
        pairs.append(("slow_cause_loc", slow.cause_loc))
        if event_type is EventType.SLOW:
            pairs.append(("slow_stack", stack_text.short(slow.stack)))


def without_excluded(pairs: Pairs, settings: Settings) -> tuple[tuple[str, FieldValue], ...]:
    """Return the pairs that the operator lets out; `event_type` always is."""
    excluded = settings.excluded_fields
    if excluded is not None:
        pairs = [pair for pair in pairs if pair[0] == "event_type" or not excluded.match(pair[0])]
    return tuple(pairs)


def add_pool(pairs: Pairs, pool: PoolState) -> None:
    """Add how full the pool was; what can't be told is left out, never shown as 0."""
    pairs.append(("g_w_count", pool.workers))
    pairs.append(("g_w_active", pool.active_workers))
    if pool.backlog is not None:
        pairs.append(("g_backlog", pool.backlog))
    if pool.slots is not None:
        pairs.append(("g_t_count", pool.slots))
    pairs.append(("g_t_active", pool.active_slots))


def _add_tallies(pairs: Pairs, scope: RequestScope) -> None:
    queries = scope.queries
    if queries is not None:
        dup_queries, dup_ns = queries.duplicates()
        pairs.append(("db_queries", queries.count))
        pairs.append(("db_time", seconds(queries.elapsed_ns)))
        pairs.append(("db_dup_queries", dup_queries))
        pairs.append(("db_dup_time", seconds(dup_ns)))
        if queries.errors:
            pairs.append(("db_errors", queries.errors))
    if scope.template_renders:
        pairs.append(("tpl_renders", scope.template_renders))
        pairs.append(("tpl_time", seconds(scope.template_ns)))
    if scope.cache_hits or scope.cache_misses:
        pairs.append(("cache_hits", scope.cache_hits))
        pairs.append(("cache_misses", scope.cache_misses))
        pairs.append(("cache_time", seconds(scope.cache_ns)))
    if scope.calls is not None:
        for system, calls in list(scope.calls.items()):
            pairs.append((f"{system}_calls", calls.count))
            pairs.append((f"{system}_time", seconds(calls.elapsed_ns)))
            if calls.errors:
                pairs.append((f"{system}_errors", calls.errors))


def as_meant(text: str) -> str:
    """Return what a client meant: WSGI hands bytes over as Latin-1, clients mean UTF-8."""
    if text.isascii():
        return text
    return text.encode("latin-1", "replace").decode("utf-8", "replace")
