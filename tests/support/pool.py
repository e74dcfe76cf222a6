"""The pool's metrics and `pool` lines of a server, as they have arrived so far."""

from __future__ import annotations

import collections
import os
from datetime import datetime
from typing import Any

from otel_canonical.pool.counters import COUNTS
from otel_canonical.pool.ledger import PoolSample
from otel_canonical.pool.scoreboard import PoolState
from otel_canonical.reporter.instruments import METRICS
from tests.support.otlp_sink import OtlpSink, SunkMetric
from tests.support.servers import Line, Server

COUNTERS = [metric.name for metric in METRICS if metric.instrument == "counter"]
POOL = {metric.name: metric for metric in METRICS}
EXPORT_MS = "300"
#: For workers that are to be many rather than large.
SMALL = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"}
Series = tuple[str, tuple[tuple[str, object], ...], object]


def exporting_metrics(sink: OtlpSink, **more: str) -> dict[str, str]:
    """Return an environment that exports metrics to `sink`, often."""
    return {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{sink.endpoint}/v1/metrics",
        "OTEL_METRIC_EXPORT_INTERVAL": EXPORT_MS,
        **more,
    }


def series_of(sink: OtlpSink) -> dict[Series, list[float]]:
    """Return the values of each series of the pool's metrics, in the order in which they came."""
    found: dict[Series, list[float]] = collections.defaultdict(list)
    for metric in list(sink.metrics):
        if metric.name in POOL:
            found[series(metric)].append(metric.value)
    return found


def series(metric: SunkMetric) -> Series:
    """Return what tells a data point's series from others: its name and all of its attributes."""
    attributes = tuple(sorted(metric.attributes.items()))
    return metric.name, attributes, metric.resource["service.instance.id"]


def last_value(sink: OtlpSink, name: str, **attributes: object) -> float | None:
    """Return the last value of a metric; `_` in an attribute's name stands for `.`."""
    wanted = {key.replace("_", "."): value for key, value in attributes.items()}
    for metric in reversed(list(sink.metrics)):
        if metric.name == name and wanted.items() <= metric.attributes.items():
            return metric.value
    return None


def pool_lines(site: Server) -> list[Line]:
    """Return the `pool` lines so far."""
    return [line for line in site.lines() if line["event_type"] == "pool"]


def written_at(line: Line) -> float:
    """Return when a line was written."""
    return datetime.fromisoformat(line["ts"].replace("Z", "+00:00")).timestamp()


SECOND_NS = 1_000_000_000


def sample_at(at_ns: int, **more: Any) -> PoolSample:
    """Return a sample of a pool of two workers with four threads each."""
    sample = PoolSample(
        at_ns,
        PoolState(2, 1, 8, 3, 5, 2),
        busy_ns=6 * SECOND_NS,
        capacity_ns=80 * SECOND_NS,
        workers_started=4,
        deaths={"oom": 1, "exit:0": 1},
        counts={**dict.fromkeys(COUNTS, 0), "request": 100, "lost": 2, "dropped": 1},
        pids={0: os.getpid(), 1: 2**22 + 1},
        export_lost={"traces": 3, "logs": 0},
    )
    return sample._replace(**more)
