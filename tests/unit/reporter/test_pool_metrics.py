"""PoolMetrics: the pool's state as metrics; stale values are left out."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_canonical.pool.counters import COUNTS
from otel_canonical.pool.ledger import PoolSample
from otel_canonical.pool.scoreboard import FRESH_NS, PoolState
from otel_canonical.reporter.instruments import METRICS
from otel_canonical.reporter.pool_metrics import PoolMetrics
from otel_canonical.request.reports import PoolReport, parse_report
from tests.support.pool import SECOND_NS, sample_at

TOTALS = {metric.name for metric in METRICS if metric.instrument == "counter"}


class Exported:
    """What OpenTelemetry gets of the samples that it is fed, at a time that the test sets."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._reader = InMemoryMetricReader()
        provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self._metrics = PoolMetrics(provider.get_meter("test"), lambda: self.now_ns)

    def take(self, sample: PoolSample, starts: int = 1) -> None:
        """Feed a sample, as it comes through the pipe."""
        report = parse_report(PoolReport(sample, starts, 3).to_json())
        assert report == PoolReport(sample, starts, 3)
        assert isinstance(report, PoolReport)
        self._metrics.take(report)

    def collect(self) -> dict[str, Any]:
        """Return the values of all metrics; by attribute where there is one."""
        found: dict[str, Any] = {}
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for metric in resource.scope_metrics[0].metrics:
                for point in metric.data.data_points:
                    if point.attributes:
                        [key] = point.attributes.values()
                        found.setdefault(metric.name, {})[key] = point.value
                    else:
                        found[metric.name] = point.value
        return found


@pytest.fixture
def exported() -> Exported:
    """A meter provider with our instruments."""
    return Exported()


def test_every_metric_is_exported(exported: Exported) -> None:
    """Each with its value; of a process that isn't there, nothing."""
    exported.take(sample_at(0))
    exported.take(sample_at(1, busy_ns=9 * SECOND_NS, capacity_ns=90 * SECOND_NS))
    found = exported.collect()
    memory = found.pop("gunicorn.worker.memory.pss")
    assert list(memory) == [0]
    assert memory[0] > 10_000_000
    assert found == {
        "gunicorn.workers.count": 2,
        "gunicorn.workers.active": 1,
        "gunicorn.slots.count": 8,
        "gunicorn.slots.active": 3,
        "gunicorn.slots.waiting": 2,
        "gunicorn.backlog": 5,
        "gunicorn.utilization": 0.3,
        "gunicorn.slots.busy_time": 9.0,
        "gunicorn.workers.started": 4,
        "gunicorn.workers.died": {"oom": 1, "exit:0": 1},
        "canonical.lines": {
            **dict.fromkeys([*COUNTS[:6], "slow_query"], 0),
            "request": 100,
            "lost": 2,
        },
        "canonical.lines.dropped": 1,
        "canonical.lines.shortened": 0,
        "canonical.requests.unshown": 0,
        "canonical.samples.dropped": 3,
    }
    assert {*found, "gunicorn.worker.memory.pss"} == {metric.name for metric in METRICS}


def test_stale_sample_has_no_gauges(exported: Exported) -> None:
    """While the arbiter is too busy to sample, gauges are left out; totals stay true."""
    exported.take(sample_at(0))
    exported.now_ns = FRESH_NS - 1
    assert exported.collect()["gunicorn.workers.count"] == 2
    exported.now_ns = FRESH_NS
    assert set(exported.collect()) == TOTALS


def test_unknown_values_are_absent(exported: Exported) -> None:
    """No backlog, no bound, no queue: no metric, rather than 0."""
    exported.take(sample_at(0, state=PoolState(2, 1, None, 3, None, None), capacity_ns=0))
    absent = {"gunicorn.slots.count", "gunicorn.slots.waiting", "gunicorn.backlog"}
    assert not {*absent, "gunicorn.utilization"} & set(exported.collect())


def test_utilization_is_that_since_the_last_export(exported: Exported) -> None:
    """However many samples came between; without time between there is none."""
    second = SECOND_NS
    exported.take(sample_at(0, busy_ns=0, capacity_ns=0))
    exported.take(sample_at(1, busy_ns=second, capacity_ns=10 * second))
    exported.take(sample_at(2, busy_ns=8 * second, capacity_ns=10 * second))
    assert exported.collect()["gunicorn.utilization"] == 0.8
    assert "gunicorn.utilization" not in exported.collect()
    exported.take(sample_at(3, busy_ns=9 * second, capacity_ns=20 * second))
    assert exported.collect()["gunicorn.utilization"] == 0.1


def test_differences_do_not_begin_with_all_that_was_before(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new reporter for a backend that wants differences tells what came since, not all once more."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    exported.take(sample_at(0), starts=2)
    exported.take(sample_at(1, workers_started=7, deaths={"oom": 1, "SIGKILL": 2}), starts=2)
    found = exported.collect()
    assert found["gunicorn.workers.started"] == 3
    assert found["gunicorn.workers.died"] == {"oom": 0, "SIGKILL": 2}
    assert found["canonical.lines"]["request"] == 0
