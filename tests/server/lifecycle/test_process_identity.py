"""Only a worker's own process writes, exports and frees: not what its views fork."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.otlp_sink import OtlpSink, SunkLog, otlp_sink
from tests.support.raw_requests import begin
from tests.support.servers import eventually, gunicorn

CLASSES = {"sync": (), "gthread": ("-k", "gthread", "--threads", "2")}


def events_of(sink: OtlpSink) -> list[SunkLog]:
    """Return the log events that were exported."""
    return [record for record in sink.logs if record.event_name]


@pytest.mark.parametrize("name", list(CLASSES))
def test_fork_of_a_worker_writes_and_exports_nothing(name: str, tmp_path: Path) -> None:
    """One line, one root, one log event for each request; the slot is still the parent's."""
    with (
        otlp_sink() as sink,
        gunicorn(
            "forking",
            tmp_path,
            *CLASSES[name],
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_BLRP_SCHEDULE_DELAY="50",
        ) as server,
    ):
        # An exception ends no thread of a pool, so under gthread that child would live on.
        for view in ("forks", "spawns")[name == "gthread" :]:
            answer, line = server.ask(f"/{view}/")
            assert answer.status == 200, view
            assert "app_child" not in line, view
            assert "db_queries" not in line, view
            assert line["resp_status"] == "200", view
            assert float(line["resp_cpu_time"]) >= 0, view
            assert line["g_t_active"] == "1", view
            sink.root_of(line)
        # A killed worker exports nothing more: its log events have to be there before.
        answered = len(server.lines())
        eventually(lambda: len(events_of(sink)) == answered, server.report)
        hanging = begin(server, "/hangs/", "killed")
        server.wait_for("hanging")
        os.kill(server.workers()[0], signal.SIGKILL)
        assert server.line_of("killed")["event_type"] == "lost"
        hanging.close()
        lines = server.lines()
        assert {line["event_type"] for line in lines} == {"request", "lost"}
        roots = [sink.root_of(line) for line in lines]
        assert len({root.span_id for root in roots}) == len(lines)
        eventually(lambda: len(events_of(sink)) >= len(lines), server.report)
        assert len(events_of(sink)) == len(lines)
        assert not [span for span in sink.spans if span.name == "child"]
