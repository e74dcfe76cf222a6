"""Between the arbiter and OpenTelemetry: what is stale isn't shown, what can't be sent is counted."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_canonical.arbiter.reporter_process import ReporterProcess
from otel_canonical.pool.counters import COUNTS
from otel_canonical.pool.ledger import PoolSample
from otel_canonical.pool.scoreboard import FRESH_NS, PoolState
from otel_canonical.reporter.instruments import METRICS
from otel_canonical.reporter.pool_metrics import PoolMetrics
from otel_canonical.request.reports import PoolReport, parse_report
from tests.server.exports.test_pool_metrics import last
from tests.server.exports.test_spans_of_lost_requests import is_alive
from tests.support.otlp_sink import OtlpSink, otlp_sink
from tests.support.servers import eventually

SECOND_NS = 1_000_000_000
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
            **dict.fromkeys(COUNTS[:6], 0),
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
    """While the arbiter is too busy to look, nobody says how the pool is; totals are true for ever."""
    exported.take(sample_at(0))
    exported.now_ns = FRESH_NS - 1
    assert exported.collect()["gunicorn.workers.count"] == 2
    exported.now_ns = FRESH_NS
    assert set(exported.collect()) == TOTALS


def test_what_nobody_can_tell_is_absent(exported: Exported) -> None:
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


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpSink]:
    """A receiver that reporters of this process export to."""
    with otlp_sink() as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{sink.endpoint}/v1/metrics")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
        yield sink


def test_samples_are_dropped_and_counted_while_the_pipe_is_full(sink: OtlpSink) -> None:
    """A reporter that hangs holds nobody up; when it reads again, no line of its input is torn."""
    link = ReporterProcess(False, True, arguments=lambda: ["test"])
    link.send_sample(sample_at(time.monotonic_ns()))
    process = link._process
    assert process is not None
    eventually(lambda: last(sink, "gunicorn.workers.count") == 2, lambda: str(sink.metrics))
    os.kill(process.pid, signal.SIGSTOP)
    try:
        sent = 0
        while link._dropped_samples < 5:
            # More than a pipe takes at once: one is cut in the middle.
            link.send_sample(sample_at(time.monotonic_ns()))
            sent += 1
            assert sent < 10_000
        assert link._process is process
    finally:
        os.kill(process.pid, signal.SIGCONT)

    def has_told() -> bool:
        link.send_sample(sample_at(time.monotonic_ns(), workers_started=99))
        return (
            last(sink, "canonical.samples.dropped") == link._dropped_samples
            and last(sink, "gunicorn.workers.started") == 99
        )

    eventually(has_told, lambda: str(sink.metrics[-20:]))
    assert is_alive(process.pid)
    link.stop(10.0)
    assert not is_alive(process.pid)


def test_forked_child_does_not_keep_the_reporter(sink: OtlpSink) -> None:
    """Whoever is forked while there is one lets go of its pipe."""
    link = ReporterProcess(False, True, arguments=lambda: ["test"])
    link.send_sample(sample_at(time.monotonic_ns()))
    process = link._process
    assert process is not None
    waits, ends = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads: the sink has one, the child does without.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(ends)
        os.read(waits, 1)
        os._exit(0)
    os.close(waits)
    link.stop(10.0)
    assert not is_alive(process.pid)
    os.close(ends)
    os.waitpid(child, 0)
