"""The pool's metrics: observable instruments that read the arbiter's last sample.

Lives in the reporter, the one process that exports them, however many workers there are. Totals are the
arbiter's: a new reporter continues where the old one stopped.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_canonical.pool.ledger import PoolSample, utilization
from otel_canonical.pool.scoreboard import FRESH_NS, PoolState
from otel_canonical.reporter import instruments
from otel_canonical.reporter.instruments import MetricDescription
from otel_canonical.request.reports import PoolReport

#: To read how much memory a process shares, the kernel walks all of it.
MEMORY_INTERVAL_S = 10.0
#: Where totals leave as differences, a first one is measured against the first sample.
_DELTA_PREFERENCES = ("delta", "lowmemory")

Values = Iterable[tuple[float, Mapping[str, str | int]]]


class PoolMetrics:
    """Registers all instruments and answers them out of the last sample.

    Args:
        meter: what makes the instruments.
        clock: the monotonic clock, ns; the arbiter's is the same.
    """

    def __init__(self, meter: Meter, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._sample: PoolSample | None = None
        self._dropped_samples = 0
        self._exported: PoolSample | None = None
        self._first: PoolSample | None = None
        self._memory = _Memory()
        for metric, values in (
            (instruments.WORKERS_COUNT, self._state(lambda state: state.workers)),
            (instruments.WORKERS_ACTIVE, self._state(lambda state: state.active_workers)),
            (instruments.SLOTS_COUNT, self._state(lambda state: state.slots)),
            (instruments.SLOTS_ACTIVE, self._state(lambda state: state.active_slots)),
            (instruments.SLOTS_WAITING, self._state(lambda state: state.waiting)),
            (instruments.BACKLOG, self._state(lambda state: state.backlog)),
            (instruments.UTILIZATION, self._utilization),
            (instruments.WORKER_MEMORY, self._worker_memory),
            (instruments.BUSY_TIME, self._total(lambda sample: sample.busy_ns / 1e9)),
            (instruments.WORKERS_STARTED, self._total(lambda sample: sample.workers_started)),
            (instruments.WORKERS_DIED, self._deaths),
            (instruments.LINES, self._lines),
            (instruments.LINES_DROPPED, self._total(lambda sample: sample.counts["dropped"])),
            (instruments.LINES_SHORTENED, self._total(lambda sample: sample.counts["shortened"])),
            (instruments.REQUESTS_UNSHOWN, self._total(lambda sample: sample.counts["unshown"])),
            (instruments.SAMPLES_DROPPED, lambda: [(self._dropped_samples, {})]),
        ):
            _register(meter, metric, values)

    def take(self, report: PoolReport) -> None:
        """Take over a sample that the arbiter has sent."""
        sample = report.sample
        if self._sample is None:
            self._exported = sample
            preference = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "")
            if report.starts > 1 and preference.strip().lower() in _DELTA_PREFERENCES:
                # An earlier reporter has exported what came before.
                self._first = sample
        self._sample = sample
        self._dropped_samples = report.dropped_samples

    def _fresh(self) -> PoolSample | None:
        """Return the last sample, None if the arbiter has been too busy for another since."""
        sample = self._sample
        return sample if sample is not None and self._clock() - sample.at_ns < FRESH_NS else None

    def _state(self, value_of: Callable[[PoolState], int | None]) -> Callable[[], Values]:
        def values() -> Values:
            sample = self._fresh()
            value = value_of(sample.state) if sample is not None else None
            return [] if value is None else [(value, {})]

        return values

    def _total(self, total_of: Callable[[PoolSample], float]) -> Callable[[], Values]:
        def values() -> Values:
            if self._sample is None:
                return []
            before = total_of(self._first) if self._first is not None else 0
            return [(total_of(self._sample) - before, {})]

        return values

    def _utilization(self) -> Values:
        before, sample = self._exported, self._fresh()
        if before is None or sample is None:
            return []
        share = utilization(before, sample)
        if share is None:
            return []
        self._exported = sample
        return [(share, {})]

    def _deaths(self) -> Iterator[tuple[float, Mapping[str, str | int]]]:
        if self._sample is not None:
            before = self._first.deaths if self._first is not None else {}
            for cause, count in self._sample.deaths.items():
                yield count - before.get(cause, 0), {instruments.WORKERS_DIED.attribute: cause}

    def _lines(self) -> Iterator[tuple[float, Mapping[str, str | int]]]:
        if self._sample is not None:
            before = self._first.counts if self._first is not None else {}
            for kind, count in self._sample.counts.items():
                if kind not in ("dropped", "shortened", "unshown"):
                    yield count - before.get(kind, 0), {instruments.LINES.attribute: kind}

    def _worker_memory(self) -> Values:
        sample = self._fresh()
        if sample is None:
            return []
        return [
            (size, {instruments.WORKER_MEMORY.attribute: number})
            for number, size in self._memory.read(sample.pids).items()
        ]


class _Memory:
    """How much memory processes take, in bytes, read at most every `MEMORY_INTERVAL_S`."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._pids: Mapping[int, int] = {}
        self._sizes: dict[int, int] = {}

    def read(self, pids: Mapping[int, int]) -> dict[int, int]:
        """Return the sizes of processes, by the numbers of `pids`; of none that isn't there."""
        now = time.monotonic()
        if now - self._read_at >= MEMORY_INTERVAL_S:
            self._read_at = now
            self._pids = pids
            sizes = {number: _proportional_set_size(pid) for number, pid in pids.items()}
            self._sizes = {number: size for number, size in sizes.items() if size is not None}
        # Of a worker that has been replaced since then nothing is known.
        return {
            number: size
            for number, size in self._sizes.items()
            if pids.get(number) == self._pids[number]
        }


def _proportional_set_size(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return None


def _register(meter: Meter, metric: MetricDescription, values: Callable[[], Values]) -> None:
    def observe(options: CallbackOptions) -> Iterator[Observation]:
        for value, attributes in values():
            yield Observation(value, attributes)

    make = (
        meter.create_observable_counter
        if metric.instrument == "counter"
        else meter.create_observable_gauge
    )
    make(metric.name, [observe], metric.unit, metric.meaning)
