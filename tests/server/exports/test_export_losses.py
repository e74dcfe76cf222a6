"""A collector that accepts nothing: requests stay fast, stops stay short, losses are reported."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from tests.support.broken_collectors import (
    BROKEN,
    FLUSH_S,
    GUNICORN_STOPS_S,
    REQUESTS_SENT,
    broken_collector,
    complaints,
    hang,
    impatient_settings,
    latencies_ms,
    lost,
    noise,
    stop_s,
)
from tests.support.otlp_sink import otlp_sink
from tests.support.servers import eventually, gunicorn


@pytest.mark.parametrize("kind", BROKEN)
def test_loss_is_counted_and_said_once_when_collector_is_broken(kind: str, tmp_path: Path) -> None:
    """Answers as ever, one complaint with its reason, a stop within the bound, and exact counts."""
    with (
        broken_collector(BROKEN[kind]) as endpoint,
        gunicorn("every_kind", tmp_path, **impatient_settings(endpoint, tmp_path)) as server,
    ):
        took = latencies_ms(server)
        eventually(lambda: complaints(server), server.report)
        assert len(complaints(server)) == 1
        stopped_s = stop_s(server)
        print(
            f"\ncollector {kind}: median {statistics.median(took):.1f} ms, "
            f"p95 {took[int(0.95 * len(took))]:.1f} ms, stopped in {stopped_s:.2f} s"
        )
        assert stopped_s < FLUSH_S + GUNICORN_STOPS_S
        assert lost(server) == {"spans": REQUESTS_SENT, "log records": REQUESTS_SENT}, (
            server.report()
        )
        assert len(complaints(server)) <= 2
        assert re.search(r"no line is affected: \S+", server.stderr.read_text())
        assert noise(server) == []
        server.wait_for_lines(REQUESTS_SENT)


def test_full_queue_is_counted_when_collector_hangs(tmp_path: Path) -> None:
    """Memory is bounded by the SDK's queue; what it drops is told like the rest."""
    with (
        broken_collector(hang) as endpoint,
        gunicorn(
            "every_kind",
            tmp_path,
            **impatient_settings(
                endpoint,
                tmp_path,
                OTEL_LOGS_EXPORTER="none",
                OTEL_BSP_MAX_QUEUE_SIZE="8",
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8",
                OTEL_EXPORTER_OTLP_TIMEOUT="30",
            ),
        ) as server,
    ):
        latencies_ms(server)
        assert stop_s(server) < FLUSH_S + GUNICORN_STOPS_S
        assert lost(server) == {"spans": REQUESTS_SENT}, server.report()


def test_lost_metrics_are_said_when_collector_is_down(tmp_path: Path) -> None:
    """The numbers come with the next report; that this one was lost is said."""
    with (
        broken_collector(None) as endpoint,
        gunicorn(
            "every_kind",
            tmp_path,
            **impatient_settings(
                endpoint,
                tmp_path,
                OTEL_METRICS_EXPORTER="otlp",
                OTEL_TRACES_EXPORTER="none",
                OTEL_LOGS_EXPORTER="none",
                OTEL_METRIC_EXPORT_INTERVAL="200",
                # Else the reporter has metrics to lose, too, and says so for itself.
                OTEL_PYTHON_CANONICAL_POOL_METRICS="false",
            ),
        ) as server,
    ):
        server.get("/ok/")
        eventually(lambda: lost(server)["reports of metrics"], server.report)
        assert len(complaints(server)) == 1


def test_nothing_is_said_when_collector_takes_all(tmp_path: Path) -> None:
    """No false alarm, and every span and event has arrived when the server has stopped."""
    with (
        otlp_sink() as sink,
        gunicorn("every_kind", tmp_path, **impatient_settings(sink.endpoint, tmp_path)) as server,
    ):
        latencies_ms(server)
        stop_s(server)
        assert complaints(server) == []
        assert (len(sink.spans), len(sink.logs)) == (REQUESTS_SENT, REQUESTS_SENT)


def test_complaints_of_sdk_are_shown_when_asked_for(tmp_path: Path) -> None:
    """At level DEBUG the SDK's own complaints appear, retry by retry."""
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text(
        "import logging\nlogging.getLogger('opentelemetry').setLevel(logging.DEBUG)\n"
    )
    with (
        broken_collector(None) as endpoint,
        gunicorn(
            "every_kind",
            tmp_path,
            "-c",
            str(configuration),
            **impatient_settings(endpoint, tmp_path),
        ) as server,
    ):
        server.get("/ok/")
        server.wait_for("Failed to export")
