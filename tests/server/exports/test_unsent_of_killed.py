"""What a killed worker had queued for export is counted and reported: its line is there, its span isn't."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from tests.support.otlp_sink import otlp_sink
from tests.support.servers import eventually, gunicorn

REQUESTS = 12


def is_asleep(pid: int) -> bool:
    """Return whether the main thread of a process waits for something."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_what_a_killed_worker_had_not_exported_is_counted(tmp_path: Path) -> None:
    """Its queue dies with it; the arbiter says so, and the metric tells, request by request."""
    with (
        otlp_sink() as sink,
        gunicorn(
            "every_kind",
            tmp_path,
            SITE_DIRECTORY=str(tmp_path),
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_METRIC_EXPORT_INTERVAL="300",
            OTEL_BSP_SCHEDULE_DELAY="120000",
            OTEL_BLRP_SCHEDULE_DELAY="120000",
            OTEL_PYTHON_CANONICAL_APP_LOGS="false",
        ) as server,
    ):
        for _ in range(REQUESTS):
            server.get("/ok/")
        server.wait_for_lines(REQUESTS)
        [worker] = server.workers()
        # Spans are queued behind the line: a worker that sleeps has done that.
        eventually(lambda: is_asleep(worker), server.report)
        os.kill(worker, signal.SIGKILL)
        found = server.wait_for(r"otel-canonical: (\d+) spans and (\d+) log records were lost with")
        assert found.groups() == (str(REQUESTS), str(REQUESTS))

        def lost() -> dict[str, int]:
            return {
                str(point.attributes["otel.signal"]): int(point.value)
                for point in list(sink.metrics)
                if point.name == "canonical.export.lost"
            }

        eventually(
            lambda: lost() == {"traces": REQUESTS, "logs": REQUESTS},
            lambda: f"{lost()}\n{server.report()}",
        )
        assert sink.spans == []


def test_what_was_exported_is_not(tmp_path: Path) -> None:
    """A worker that is killed with nothing in its queue."""
    with (
        otlp_sink() as sink,
        gunicorn(
            "every_kind",
            tmp_path,
            SITE_DIRECTORY=str(tmp_path),
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_METRICS_EXPORTER="none",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_BLRP_SCHEDULE_DELAY="50",
            OTEL_PYTHON_CANONICAL_APP_LOGS="false",
        ) as server,
    ):
        for _ in range(REQUESTS):
            server.get("/ok/")
        eventually(lambda: len(sink.spans) == len(sink.logs) == REQUESTS, server.report)
        # Batches go one after the other: when this one is here, the answer to the others was read.
        server.get("/ok/")
        eventually(lambda: len(sink.spans) == len(sink.logs) == REQUESTS + 1, server.report)
        [worker] = server.workers()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: server.workers() not in ([], [worker]), server.report)
        found = re.search(r"(\d+) spans and (\d+) log records were lost", server.stderr.read_text())
        assert found is None or max(int(count) for count in found.groups()) <= 1
