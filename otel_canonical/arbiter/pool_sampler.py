"""Samples the pool once a second, for the `pool` line and for the reporter.

Lives in the arbiter, in its main thread, between two steps of Gunicorn's main loop: nothing here waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from otel_canonical.event.chosen_fields import without_excluded
from otel_canonical.event.event import CanonicalEvent, EventType, timestamp
from otel_canonical.event.fields import FieldValue
from otel_canonical.pool.ledger import PoolLedger, PoolSample, utilization
from otel_canonical.request.pool_facts import pool_row
from otel_canonical.settings import Settings

#: The least time between two samples: Gunicorn's main loop runs once a second, and after every signal.
SAMPLE_EVERY_NS = 900_000_000


class PoolSampler:
    """Takes samples of the pool.

    Args:
        settings: the operator's choice.
        ledger: the pool's books.
        emit: writes an event.
        pids: returns the pids of Gunicorn's workers by their numbers in the pool.
        send: takes every sample.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: PoolLedger,
        emit: Callable[[CanonicalEvent], None],
        pids: Callable[[Any], dict[int, int]],
        send: Callable[[PoolSample], None],
    ) -> None:
        self._ledger = ledger
        self._pids = pids
        self._send = send
        self._next_sample_ns = 0
        #: The sample that the last `pool` line was made of.
        self._written = ledger.sample((), {})
        self.reconfigure(settings, emit)

    def reconfigure(self, settings: Settings, emit: Callable[[CanonicalEvent], None]) -> None:
        """Take over the configuration of a reload."""
        self._settings = settings
        self._emit = emit
        interval_s = settings.pool_interval_seconds
        self._interval_ns = round(interval_s * 1e9) if interval_s is not None else None

    def sample(self, arbiter: Any, *, is_last: bool = False) -> None:
        """Take a sample and pass it on, at most once a second except for the last one."""
        now_ns = time.monotonic_ns()
        if now_ns < self._next_sample_ns and not is_last:
            return
        self._next_sample_ns = now_ns + SAMPLE_EVERY_NS
        sample = self._ledger.sample(arbiter.LISTENERS, self._pids(arbiter.WORKERS.values()))
        if self._interval_ns is not None:
            # Half a sample early rather than half a sample late.
            due_ns = self._written.at_ns + self._interval_ns - SAMPLE_EVERY_NS // 2
            if sample.at_ns >= due_ns or is_last:
                self._write_line(sample)
        self._send(sample)

    def _write_line(self, sample: PoolSample) -> None:
        before, self._written = self._written, sample
        pairs: list[tuple[str, FieldValue]] = [
            ("ts", timestamp()),
            ("event_type", EventType.POOL.value),
        ]
        row, values = pool_row(sample.state)
        pairs += row.pairs(values)
        share = utilization(before, sample)
        if share is not None:
            pairs.append(("g_utilization", share))
        pairs.append(("g_w_started", sample.workers_started - before.workers_started))
        for cause, count in sample.deaths.items():
            if count > before.deaths.get(cause, 0):
                pairs.append((f"g_w_died_{cause}", count - before.deaths.get(cause, 0)))
        for name, count in sample.counts.items():
            if count > before.counts[name]:
                pairs.append((f"g_lines_{name}", count - before.counts[name]))
        shown = without_excluded(pairs, self._settings.excluded_fields)
        self._emit(CanonicalEvent.of_pairs(EventType.POOL, shown))
