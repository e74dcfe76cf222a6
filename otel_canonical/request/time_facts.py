"""The rows of an event that say where its request's time went: by state, and by place; and what came with it.

By state: running, waiting for a CPU, waiting for anything else. By place: see `places`. Each adds up to
the request's time.
"""

from __future__ import annotations

import sys
import time

from otel_canonical.event.fields import FieldValue
from otel_canonical.event.rows import LOOSE, PLACES, RESPONSE_BY_PLACE, STATES, FilledRow, seconds
from otel_canonical.process.garbage import collections
from otel_canonical.process.resident import LONG_NS
from otel_canonical.request.process_facts import add_collections, add_growth
from otel_canonical.request.scope import RequestScope

Pairs = list[tuple[str, FieldValue]]

#: Less is the clocks' own, and is left out.
SHOWN_OVERLAP_NS = 100_000


def add_time_facts(rows: list[FilledRow], scope: RequestScope) -> None:
    """Append what the response was, what took its time, and what came with it."""
    ended_ns = scope.ended_ns or time.monotonic_ns()
    elapsed_ns = ended_ns - scope.started_ns
    places: tuple[int, int, int] | None = None
    overlap_ns = 0
    if scope.django_request is not None:
        accounted_ns, overlap_ns = scope.accounted_ns, scope.overlap_ns
        mw_ns, view_ns = scope.mw_ns, scope.view_ns
        if scope.handler_mark_ns:
            accounted_ns, overlap_ns, mw_ns, view_ns = scope.so_far(ended_ns)
        other_ns = elapsed_ns - accounted_ns
        if other_ns < 0:
            overlap_ns -= other_ns
            other_ns = 0
        places = mw_ns, view_ns, other_ns
    cpu_ns = states = None
    if scope.ended_cpu_ns is not None:
        cpu_ns = scope.ended_cpu_ns - scope.started_cpu_ns
        if cpu_ns > elapsed_ns:
            # The clocks are read one after the other, so that they may differ by microseconds.
            cpu_ns = elapsed_ns
        if scope.ended_waited is not None and scope.waited is not None:
            idle_ns = elapsed_ns - cpu_ns
            wait_ns = 0
            # Short requests run from begin to end without another turn.
            if scope.waited != scope.ended_waited:
                _, before, _ = scope.waited.split()
                _, after, _ = scope.ended_waited.split()
                wait_ns = int(after) - int(before)
            if wait_ns > idle_ns:
                # It is read last: a thread that loses its CPU in between waits behind its request's end.
                wait_ns = idle_ns
            states = wait_ns, idle_ns - wait_ns
    size, first_byte_ns = scope.bytes_written, scope.first_byte_ns
    if size is not None and first_byte_ns is not None and states is not None and places is not None:
        ttfb_ns = first_byte_ns - scope.started_ns
        rows.append((RESPONSE_BY_PLACE, (size, ttfb_ns, cpu_ns, *states, *places)))
    else:
        _add_known(rows, scope, cpu_ns)
        if states is not None:
            rows.append((STATES, states))
        if places is not None:
            rows.append((PLACES, places))
    pairs: Pairs = []
    if scope.template_own_ns:
        pairs.append(("tpl_self_time", seconds(scope.template_own_ns)))
    if scope.body_ns:
        pairs.append(("body_time", seconds(scope.body_ns)))
    if overlap_ns > SHOWN_OVERLAP_NS:
        pairs.append(("resp_overlap", seconds(overlap_ns)))
    if (totals := collections.totals) is not scope.collected:
        add_collections(pairs, scope, totals)
    if (modules := len(sys.modules)) > scope.modules:
        pairs.append(("imports", modules - scope.modules))
    if elapsed_ns >= LONG_NS:
        add_growth(pairs, scope, ended_ns)
    if scope.log_warnings:
        pairs.append(("log_warnings", scope.log_warnings))
    if scope.log_errors:
        pairs.append(("log_errors", scope.log_errors))
    if scope.websocket is not None:
        pairs.append(("ws_messages_in", scope.websocket.received))
        pairs.append(("ws_messages_out", scope.websocket.sent))
        if scope.websocket.close_code is not None:
            pairs.append(("ws_close_code", scope.websocket.close_code))
    if pairs:
        rows.append((LOOSE, pairs))


def _add_known(rows: list[FilledRow], scope: RequestScope, cpu_ns: int | None) -> None:
    """Append what is known of a response."""
    pairs: Pairs = []
    if scope.bytes_written is not None:
        pairs.append(("resp_bytes", scope.bytes_written))
    if scope.first_byte_ns is not None:
        pairs.append(("resp_ttfb", seconds(scope.first_byte_ns - scope.started_ns)))
    if cpu_ns is not None:
        pairs.append(("resp_cpu_time", seconds(cpu_ns)))
    if pairs:
        rows.append((LOOSE, pairs))
