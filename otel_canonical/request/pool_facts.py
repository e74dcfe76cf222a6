"""How full the pool was, as a request's event shows it. Pure."""

from __future__ import annotations

import functools

from otel_canonical.event.fields import FieldValue
from otel_canonical.event.rows import LOOSE, POOL, POOL_WITH_QUEUES, POOLS_REMEMBERED, FilledRow
from otel_canonical.pool.scoreboard import PoolState


@functools.lru_cache(maxsize=POOLS_REMEMBERED)
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
    pairs: list[tuple[str, FieldValue]] = [
        ("g_w_count", pool.workers),
        ("g_w_active", pool.active_workers),
    ]
    if pool.backlog is not None:
        pairs.append(("g_backlog", pool.backlog))
    if pool.slots is not None:
        pairs.append(("g_t_count", pool.slots))
    pairs.append(("g_t_active", pool.active_slots))
    if pool.waiting is not None:
        pairs.append(("g_t_waiting", pool.waiting))
    return LOOSE, tuple(pairs)
