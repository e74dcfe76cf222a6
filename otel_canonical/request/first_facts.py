"""The facts with which an event begins: the request, who sent it, the response and its times. Pure.

Every request has them, so they are read in one go, in the order of the line. By state: running, waiting
for a CPU, waiting for anything else. By place: see `places`. Each adds up to the request's time.
"""

from __future__ import annotations

import time
from typing import Any

from otel_canonical.event import logfmt
from otel_canonical.event.bounds import cut, limits
from otel_canonical.event.event import EventType, timestamp
from otel_canonical.event.fields import FieldValue
from otel_canonical.event.http_conventions import METHODS
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.event.rows import (
    HEAD,
    LOOSE,
    PLACES,
    REQUESTER,
    RESPONSE_BY_PLACE,
    STATES,
    FilledRow,
    seconds,
)
from otel_canonical.request.headers import as_meant
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings

Pairs = list[tuple[str, FieldValue]]

#: Where in the row `USUAL` these rows begin.
_REQUESTER_AT = 6
_RESPONSE_AT = 18


class FirstFacts:
    """Reads the first facts of scopes, under one redaction policy."""

    def __init__(self, settings: Settings, redaction: RedactionPolicy) -> None:
        self._shows_query = settings.query_string
        self._redaction = redaction

    def read(
        self, scope: RequestScope, event_type: EventType, now_ns: int
    ) -> tuple[tuple[Any, ...], bool, bool, int]:
        """Return the first facts of a request that has ended, or is still running.

        Args:
            scope: of the request.
            event_type: of the event.
            now_ns: the moment that `ts` shows.

        Returns:
            The values of the row `USUAL`, None where one is unknown; whether those of the row `HEAD` are
            known and need no quotes; whether those of the row `RESPONSE_BY_PLACE` are known; and how much
            of the places is counted more than once, in nanoseconds.
        """
        redaction = self._redaction
        # The request. An empty value counts as absent.
        started_ns, ended_ns = scope.started_ns, scope.ended_ns
        has_ended = ended_ns is not None
        if ended_ns is None:
            # Of a request that still runs: how long it has run.
            ended_ns = time.monotonic_ns()
        elapsed_ns = ended_ns - started_ns
        path, url_kwargs = scope.path, scope.url_kwargs
        if url_kwargs or "eyJ" in path:  # a token
            path = redaction.path(path, url_kwargs or {})
        method, status = scope.method, scope.status
        has_plain_head = (
            (type(status) is int or isinstance(status, int))
            and has_ended
            and method in METHODS
            and (logfmt.known_values.get(path) or logfmt.shown(path)) == path
        )
        # Who sent it.
        headers = scope.headers
        query = referrer = user_agent = None
        if self._shows_query and scope.query_string:
            query = redaction.query(scope.query_string)
        if "REFERER" in headers and (sent := headers["REFERER"]):
            referrer = redaction.referrer(as_meant(sent), scope.host, url_kwargs or {})
        if "USER-AGENT" in headers and (user_agent := headers["USER-AGENT"]):
            if not user_agent.isascii():
                user_agent = as_meant(user_agent)
            if len(user_agent) > limits.value:
                user_agent = cut(user_agent)
        # The response, and its times by state.
        has_whole_response = True
        size, ttfb_ns = scope.bytes_written, scope.first_byte_ns
        if ttfb_ns is not None:
            ttfb_ns -= started_ns
        if size is None or ttfb_ns is None:
            has_whole_response = False
        cpu_ns = wait_ns = blocked_ns = None
        waited, ended_waited = scope.waited, scope.ended_waited
        if scope.ended_cpu_ns is not None:
            cpu_ns = scope.ended_cpu_ns - scope.started_cpu_ns
            if cpu_ns > elapsed_ns:
                # The clocks are read one after the other, so that they may differ by microseconds.
                cpu_ns = elapsed_ns
        if cpu_ns is not None and waited is not None and ended_waited is not None:
            blocked_ns = elapsed_ns - cpu_ns
            wait_ns = 0
            # Short requests run from begin to end without another turn.
            if waited != ended_waited:
                wait_ns = _waited_ns(waited, ended_waited)
                if wait_ns > blocked_ns:
                    # It is read last: a thread that loses its CPU in between waits behind its request's end.
                    wait_ns = blocked_ns
                blocked_ns -= wait_ns
        else:
            has_whole_response = False
        # By place.
        overlap_ns = 0
        mw_ns = view_ns = other_ns = None
        if scope.django_request is not None:
            overlap_ns = scope.overlap_ns
            if scope.handler_mark_ns:
                accounted_ns, overlap_ns, mw_ns, view_ns = scope.so_far(ended_ns)
                other_ns = elapsed_ns - accounted_ns
            else:
                mw_ns, view_ns = scope.mw_ns, scope.view_ns
                other_ns = elapsed_ns - scope.accounted_ns
            if other_ns < 0:
                overlap_ns -= other_ns
                other_ns = 0
        else:
            has_whole_response = False
        values = (
            timestamp(now_ns),
            event_type._value_,  # `value` itself is a function of Python's before 3.12
            method,
            path,
            status,
            elapsed_ns,
            scope.route,
            scope.view,
            scope.user_id,
            scope.client or None,
            scope.host or None,
            scope.scheme or None,
            scope.proto or None,
            query,
            referrer,
            user_agent or None,
            scope.content_length,
            scope.queue_s,
            size,
            ttfb_ns,
            cpu_ns,
            wait_ns,
            blocked_ns,
            mw_ns,
            view_ns,
            other_ns,
        )
        return values, has_plain_head, has_whole_response, overlap_ns


def rows_apart(
    values: tuple[Any, ...], failures: FilledRow | None, *, has_plain_head: bool
) -> list[FilledRow]:
    """Return the first facts as rows of their own, if some are unknown or something went wrong.

    Args:
        values: of the row `USUAL`.
        failures: what went wrong; it stands between who asked and the response.
        has_plain_head: whether those of the row `HEAD` are known and need no quotes.
    """
    head, requester = values[:_REQUESTER_AT], values[_REQUESTER_AT:_RESPONSE_AT]
    rows: list[FilledRow] = [(HEAD, head) if has_plain_head else (LOOSE, _known_head(head))]
    rows.append((REQUESTER, requester))
    if failures is not None:
        rows.append(failures)
    add_response(rows, values[_RESPONSE_AT:])
    return rows


def _waited_ns(before: bytes, after: bytes) -> int:
    # One split of both: a split costs as much as to read a number.
    _, waited_before, _, _, waited_after, _ = (before + after).split()
    return int(waited_after) - int(waited_before)


def _known_head(head: tuple[Any, ...]) -> Pairs:
    """Return what is known of the row `HEAD`, for the way of writing that quotes."""
    made, event_type, method, path, status, elapsed_ns = head
    pairs: Pairs = [("ts", made), ("event_type", event_type)]
    if method:
        pairs.append(("req_method", method))
    if path:
        pairs.append(("req_path", path))
    if status is not None:
        pairs.append(("resp_status", status))
    pairs.append(("resp_time", seconds(elapsed_ns)))
    return pairs


def add_response(rows: list[FilledRow], response: tuple[Any, ...]) -> None:
    """Append what is known of the row `RESPONSE_BY_PLACE`."""
    if None not in response:
        rows.append((RESPONSE_BY_PLACE, response))
        return
    size, ttfb_ns, cpu_ns, wait_ns, blocked_ns, *places = response
    pairs: Pairs = []
    if size is not None:
        pairs.append(("resp_bytes", size))
    if ttfb_ns is not None:
        pairs.append(("resp_ttfb", seconds(ttfb_ns)))
    if cpu_ns is not None:
        pairs.append(("resp_cpu_time", seconds(cpu_ns)))
    if pairs:
        rows.append((LOOSE, pairs))
    if wait_ns is not None:
        rows.append((STATES, (wait_ns, blocked_ns)))
    if None not in places:
        rows.append((PLACES, places))
