"""The pool's metrics: one writer, totals that only grow, identities that outlive a worker."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otel_canonical.reporter.instruments import METRICS, SLOTS_WAITING
from tests.support.operating import renew_workers
from tests.support.otlp_sink import OtlpSink, SunkMetric, otlp_sink
from tests.support.peers.collector import collector
from tests.support.pool import (
    COUNTERS,
    POOL,
    SMALL,
    Series,
    exporting_metrics,
    last_value,
    series_of,
)
from tests.support.processes import children_of, is_alive, is_reporter
from tests.support.raw_requests import send
from tests.support.servers import PATIENCE_S, eventually, gunicorn
from tests.support.soak import IS_SOAK, some_of

pytestmark = pytest.mark.soak

GAUGES = [metric.name for metric in METRICS if metric.instrument == "gauge"]
#: So many requests recycle a worker.
LIVES_FOR = 3
#: (short, long)
REQUESTS = (48, 900)[IS_SOAK]


def lines_told(sink: OtlpSink) -> float | None:
    """Return how many `request` lines the metrics tell of."""
    for metric in reversed(list(sink.metrics)):
        if metric.attributes.get("canonical.event_type") == "request":
            return metric.value
    return None


@contextlib.contextmanager
def receiver(kind: str, directory: Path) -> Iterator[OtlpSink]:
    """Yield where metrics go: our own sink, or what a real Collector makes of them."""
    if kind == "sink":
        with otlp_sink() as sink:
            yield sink
    else:
        with collector(directory) as running:
            running.received.endpoint = running.endpoint
            yield running.received


@pytest.mark.parametrize("kind", some_of(["sink", "collector"], "collector"))
def test_every_metric_has_one_series_and_totals_only_grow(kind: str, tmp_path: Path) -> None:
    """Eight workers that live for three requests each: still one writer, and it forgets nothing."""
    requests = REQUESTS
    with (
        receiver(kind, tmp_path) as sink,
        gunicorn(
            "plain_wsgi",
            tmp_path,
            *("--max-requests", str(LIVES_FOR)),
            workers=8,
            **exporting_metrics(sink, **SMALL),
        ) as site,
    ):
        with ThreadPoolExecutor(3) as clients:
            list(clients.map(lambda n: send(site, "/ok/"), range(requests)))
        served = collections.Counter(int(line["g_pid"]) for line in site.wait_for_lines(requests))
        # Not one that is on its way out by itself.
        os.kill(next(pid for pid in site.workers() if served[pid] < LIVES_FOR), signal.SIGKILL)
        eventually(
            lambda: (
                (lines_told(sink), summed(sink, "gunicorn.workers.count")) == (requests, 8)
                and last_value(sink, "gunicorn.slots.count") == 8
                # Read every ten seconds only.
                and any(name == "gunicorn.worker.memory.pss" for name, _, _ in series_of(sink))
            ),
            lambda: f"{lines_told(sink)} lines, {series_of(sink)}",
        )
        os.kill(site.pid, signal.SIGTERM)
        assert site.process.wait(PATIENCE_S) == 0
        # The reporter has left before its arbiter: its last words are out.
        eventually(
            lambda: last_value(sink, "gunicorn.workers.count") == 0, lambda: str(series_of(sink))
        )
        found = series_of(sink)
    names = collections.Counter(name for name, attributes, _ in found if not attributes)
    assert set(names.values()) == {1}
    assert {name for name, _, _ in found} == set(POOL) - {SLOTS_WAITING.name}
    assert len({instance for _, _, instance in found}) == 1
    for (name, attributes, _), values in found.items():
        if name in COUNTERS:
            assert values == sorted(values), (name, attributes)
        if name == "gunicorn.workers.count":
            # While a worker is replaced there is one less; never a multiple of them.
            assert max(values) == 8
    died = {
        dict(attributes)["gunicorn.worker.death.cause"]: values[-1]
        for (name, attributes, _), values in found.items()
        if name == "gunicorn.workers.died"
    }
    assert died["SIGKILL"] == 1
    started = found[("gunicorn.workers.started", (), instance_of(found))][-1]
    assert sum(died.values()) == started
    # The one that was killed has a successor, and so have those that had their three.
    assert started > 9
    units = {(metric.name, metric.unit) for metric in sink.metrics if metric.name in POOL}
    assert units <= {(metric.name, metric.unit) for metric in METRICS}
    numbers = {
        dict(attributes)["gunicorn.worker.number"]
        for name, attributes, _ in found
        if name == "gunicorn.worker.memory.pss"
    }
    assert numbers <= set(range(8))


def summed(sink: OtlpSink, name: str) -> float:
    """Return the sum of the last values of all series of a metric, as a dashboard would."""
    return sum(values[-1] for (found, _, _), values in series_of(sink).items() if found == name)


def instance_of(found: dict[Series, list[float]]) -> object:
    """Return the one instance that all series are of."""
    [instance] = {instance for _, _, instance in found}
    return instance


def test_recycled_worker_goes_on_with_the_series_of_the_one_before(tmp_path: Path) -> None:
    """Upstream's metrics of a worker, of a new process, under the identity that the old one had."""
    with (
        otlp_sink() as sink,
        gunicorn(
            "stuck", tmp_path, "--max-requests", "1", workers=2, **exporting_metrics(sink)
        ) as site,
    ):
        for _ in range(8):
            send(site, "/ok/")
        assert len({line["g_pid"] for line in site.wait_for_lines(8)}) == 8

        def of_workers() -> list[SunkMetric]:
            name = "http.server.request.duration"
            return [metric for metric in list(sink.metrics) if metric.name == name]

        # Each has told of its one request, at the latest when it left.
        eventually(lambda: len(of_workers()) >= 7, lambda: str(of_workers()))
        members = {
            (metric.resource["service.instance.id"], metric.resource["gunicorn.worker.number"])
            for metric in of_workers()
        }
        assert {number for _, number in members} <= {0, 1}
        assert len(members) == len({number for _, number in members})
        assert {uuid.UUID(instance).version for instance, _ in members} == {5}
        writers = {instance for _, _, instance in series_of(sink)}
        assert not writers & {instance for instance, _ in members}


def test_instance_id_of_the_user_stays(tmp_path: Path) -> None:
    """Everybody exports under it; a worker's number tells them apart."""
    given = "service.name=shop,service.instance.id=web-1"
    with (
        otlp_sink() as sink,
        gunicorn(
            "stuck", tmp_path, **exporting_metrics(sink, OTEL_RESOURCE_ATTRIBUTES=given)
        ) as site,
    ):
        send(site, "/ok/")
        eventually(
            lambda: (
                {"http.server.request.duration", "gunicorn.workers.count"}
                <= {metric.name for metric in list(sink.metrics)}
            ),
            site.report,
        )
        assert {metric.resource["service.instance.id"] for metric in sink.metrics} == {"web-1"}
        numbers = {metric.resource.get("gunicorn.worker.number") for metric in sink.metrics}
        assert numbers == {0, None}


def test_reporter_that_dies_is_started_again_and_forgets_nothing(tmp_path: Path) -> None:
    """Totals are the arbiter's: they go on, and no zombie is left."""
    with (
        otlp_sink() as sink,
        gunicorn("stuck", tmp_path, workers=2, **exporting_metrics(sink)) as site,
    ):
        send(site, "/ok/")
        eventually(lambda: lines_told(sink) == 1, site.report)
        [first] = site.reporters()
        os.kill(first, signal.SIGKILL)
        send(site, "/ok/")
        eventually(lambda: lines_told(sink) == 2, site.report)
        [second] = site.reporters()
        assert second != first
        assert not os.path.exists(f"/proc/{first}")
        for (name, _, _), values in series_of(sink).items():
            if name in COUNTERS:
                assert values == sorted(values)


def test_reload_replaces_the_reporter_if_its_environment_changes(tmp_path: Path) -> None:
    """SIGHUP: with the same environment it stays, with another collector there is a new one."""
    conf = tmp_path / "conf.py"
    conf.write_text("")
    with (
        otlp_sink() as sink,
        otlp_sink() as other,
        gunicorn("stuck", tmp_path, "-c", str(conf), workers=2, **exporting_metrics(sink)) as site,
    ):
        [first] = eventually(site.reporters, site.report)
        renew_workers(site)
        eventually(lambda: last_value(sink, "gunicorn.workers.started") == 4, site.report)
        assert site.reporters() == [first]
        endpoint = f"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT={other.endpoint}/v1/metrics"
        conf.write_text(f"raw_env = ['{endpoint}']\n")
        renew_workers(site)
        eventually(
            lambda: last_value(other, "gunicorn.workers.started") == 6,
            lambda: f"{series_of(other)}\n{site.report()}",
        )
        eventually(lambda: first not in site.reporters(), site.report)
        eventually(lambda: last_value(other, "gunicorn.workers.count") == 2, site.report)
        conf.write_text("raw_env = ['OTEL_PYTHON_CANONICAL_ENABLED=false']\n")
        renew_workers(site)
        eventually(lambda: not site.reporters(), site.report)


def test_two_arbiters_have_two_reporters_and_no_series_in_common(tmp_path: Path) -> None:
    """SIGUSR2: both are whole, and the old one takes its reporter with it."""
    with otlp_sink() as sink, gunicorn("stuck", tmp_path, **exporting_metrics(sink)) as site:
        [old] = eventually(site.reporters, site.report)
        eventually(lambda: last_value(sink, "gunicorn.workers.count") == 1, site.report)
        os.kill(site.pid, signal.SIGUSR2)
        new_arbiter = eventually(
            lambda: [pid for pid in site.children() if children_of(pid)], site.report
        )[0]

        def writers() -> set[object]:
            return {instance for _, _, instance in series_of(sink)}

        try:
            eventually(lambda: len(writers()) == 2, lambda: f"{writers()}\n{site.report()}")
            [new] = [pid for pid in children_of(new_arbiter) if is_reporter(pid)]
            os.kill(site.pid, signal.SIGTERM)
            site.process.wait(PATIENCE_S)
            # No process holds its pipe any more, not even the new arbiter.
            eventually(lambda: not is_alive(old), site.report)
            assert is_alive(new)
        finally:
            os.kill(new_arbiter, signal.SIGTERM)
        eventually(lambda: not is_alive(new_arbiter) and not is_alive(new), site.report)
        assert len(writers()) == 2


def test_no_reporter_when_pool_metrics_are_off(tmp_path: Path) -> None:
    """The setting saves the process; the workers' metrics still leave."""
    with (
        otlp_sink() as sink,
        gunicorn(
            "stuck", tmp_path, **exporting_metrics(sink, OTEL_PYTHON_CANONICAL_POOL_METRICS="false")
        ) as site,
    ):
        send(site, "/ok/")
        eventually(lambda: sink.metrics, site.report)
        assert site.reporters() == []
        assert not series_of(sink)
