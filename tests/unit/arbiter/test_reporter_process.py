"""ReporterProcess: it never blocks the arbiter, counts what it drops, and is not inherited."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from otel_canonical.arbiter.reporter_process import ReporterProcess
from tests.support.forks import exit_status, fork
from tests.support.otlp_sink import OtlpSink, otlp_sink
from tests.support.pool import last_value, sample_at
from tests.support.processes import is_alive
from tests.support.servers import PATIENCE_S, eventually


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpSink]:
    """A receiver that reporters of this process export to."""
    with otlp_sink() as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{sink.endpoint}/v1/metrics")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
        yield sink


def test_samples_are_dropped_and_counted_while_the_pipe_is_full(sink: OtlpSink) -> None:
    """A reporter that hangs does not block the arbiter; when it reads again, no line of its input is torn."""
    link = ReporterProcess(False, True, arguments=lambda: ["test"])
    link.send_sample(sample_at(time.monotonic_ns()))
    process = link._process
    assert process is not None

    def has_read() -> bool:
        # Again and again: one that is old when the reporter comes to read it has no gauges.
        link.send_sample(sample_at(time.monotonic_ns()))
        return last_value(sink, "gunicorn.workers.count") == 2

    eventually(has_read, lambda: str(sink.metrics))
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
            last_value(sink, "canonical.samples.dropped") == link._dropped_samples
            and last_value(sink, "gunicorn.workers.started") == 99
        )

    eventually(has_told, lambda: str(sink.metrics[-20:]))
    assert is_alive(process.pid)
    link.stop(PATIENCE_S)
    assert not is_alive(process.pid)


def test_forked_child_does_not_keep_the_reporter(sink: OtlpSink) -> None:
    """A process that is forked meanwhile closes its end of the pipe."""
    link = ReporterProcess(False, True, arguments=lambda: ["test"])
    link.send_sample(sample_at(time.monotonic_ns()))
    process = link._process
    assert process is not None
    waits, ends = os.pipe()

    def wait_for_the_end() -> None:
        os.close(ends)
        os.read(waits, 1)

    child = fork(wait_for_the_end)
    os.close(waits)
    link.stop(PATIENCE_S)
    assert not is_alive(process.pid)
    os.close(ends)
    assert exit_status(child) == 0
