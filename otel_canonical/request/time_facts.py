"""What came with a request's time and few requests have: further places, and what happened meanwhile."""

from __future__ import annotations

import sys
import time

from otel_canonical.event.fields import FieldValue
from otel_canonical.event.rows import LOOSE, FilledRow, seconds
from otel_canonical.process.garbage import collections
from otel_canonical.process.resident import LONG_NS
from otel_canonical.request.process_facts import add_collections, add_growth
from otel_canonical.request.scope import RequestScope

Pairs = list[tuple[str, FieldValue]]

#: Less is the clocks' own, and is left out.
SHOWN_OVERLAP_NS = 100_000


def add_surprises(rows: list[FilledRow], scope: RequestScope, overlap_ns: int) -> None:
    """Append what few requests have: other places, and what happened to the process meanwhile."""
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
    ended_ns = scope.ended_ns or time.monotonic_ns()
    if ended_ns - scope.started_ns >= LONG_NS:
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
