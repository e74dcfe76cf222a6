"""What happened to the worker's process while a request ran: collections, imports, growth.

Read at a request's beginning and at its end; what other requests of the process did meanwhile is in it.
"""

from __future__ import annotations

from otel_canonical.event.fields import FieldValue
from otel_canonical.event.rows import seconds
from otel_canonical.process.resident import resident_memory
from otel_canonical.request.scope import RequestScope

#: Collections that took less together are left out.
SHOWN_COLLECTING_NS = 1_000_000

#: Growth up to this is left out, in bytes.
SHOWN_GROWTH = 1 << 20

Pairs = list[tuple[str, FieldValue]]


def add_collections(pairs: Pairs, scope: RequestScope, totals: tuple[int, int]) -> None:
    """Append the garbage collections since a request began, if they took long enough to matter."""
    spent_ns = totals[0] - scope.collected[0]
    if spent_ns >= SHOWN_COLLECTING_NS:
        pairs.append(("gc_time", seconds(spent_ns)))
        pairs.append(("gc_runs", totals[1] - scope.collected[1]))


def add_growth(pairs: Pairs, scope: RequestScope, now_ns: int) -> None:
    """Append how much the process has grown since a request began, if that is known and much."""
    before = scope.resident
    now = resident_memory.look(now_ns)
    if before is not None and now is not None and now - before > SHOWN_GROWTH:
        pairs.append(("mem_growth", now - before))
