"""Processes of a busy server that end or are killed: every request still has its one line."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.busy_servers import (
    LOADED_CLASSES,
    WORKERS,
    assert_each_line_has_its_root,
    assert_pool_is_counted,
    busy,
    exporting_to,
    in_sync,
    in_threads,
    started,
)
from tests.support.load import WARM, said_by, under_load
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import process_that_runs, processes_of, shared_memory_of
from tests.support.raw_requests import request_id, send
from tests.support.servers import (
    PATIENCE_S,
    eventually,
    gunicorn,
)

pytestmark = pytest.mark.soak


@in_threads
def test_recycled_workers(worker_class: str, exported_to: OtlpSink, tmp_path: Path) -> None:
    """`--max-requests` with jitter: a worker's last requests have their lines, and roots."""
    arguments = ("--max-requests", "20", "--max-requests-jitter", "10")
    with busy(worker_class, tmp_path, *arguments, **exporting_to(exported_to)) as (server, load):
        eventually(
            lambda: len({line["g_pid"] for line in load.lines()}) >= 3 * WORKERS,
            lambda: said_by(server),
        )
        load.stop()
        assert load.account().keys() <= {"request"}
        assert_pool_is_counted(server, worker_class)
        assert_each_line_has_its_root(load, exported_to)


@in_threads
def test_workers_that_are_told_to_quit(worker_class: str, tmp_path: Path) -> None:
    """SIGQUIT to workers in the middle of their requests: what was answered has its line all the same."""
    # Not `busy`: Gunicorn itself prints a traceback of each SystemExit.
    with (
        gunicorn("stuck", tmp_path, *LOADED_CLASSES[worker_class], workers=WORKERS) as server,
        under_load(server) as load,
    ):

        def serving() -> list[int]:
            # One that is told to quit while it starts is to Gunicorn an app that cannot be loaded.
            served = {int(line["g_pid"]) for line in load.lines()}
            return [pid for pid in server.workers() if pid in served]

        for number in range(8):
            workers = eventually(serving, lambda: said_by(server))
            os.kill(workers[number % len(workers)], signal.SIGQUIT)
            load.wait_for_answers(WARM // 2)
        load.stop()
        load.account(only_good=False)
        assert_pool_is_counted(server, worker_class)


@in_sync
def test_arbiter_that_is_killed(worker_class: str, exported_to: OtlpSink, tmp_path: Path) -> None:
    """SIGKILL to the arbiter: its workers finish what they have, with lines, and all of it ends."""
    with started(worker_class, tmp_path, **exporting_to(exported_to)) as server:
        assert server.send(b"GET /kills-itself/ HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        eventually(lambda: process_that_runs("reporter", tmp_path), lambda: said_by(server))
        # Shared memory without a name: nothing is left, however all of it ends.
        assert not [pid for pid in processes_of(tmp_path) if shared_memory_of(pid)]
        with under_load(server) as load:
            os.kill(server.pid, signal.SIGKILL)
            # A sync worker doesn't look for its parent as long as there is something to do.
            eventually(
                lambda: load.refused or len(load.answered) > 10 * WARM, lambda: said_by(server)
            )
        eventually(lambda: not processes_of(tmp_path), lambda: str(processes_of(tmp_path)))
        assert load.account().keys() == {"request"}
        if worker_class != "gevent":  # whose worker leaves in the middle of its requests then
            assert_each_line_has_its_root(load, exported_to)


@in_sync
def test_graceful_timeout_that_runs_out(
    worker_class: str, exported_to: OtlpSink, tmp_path: Path
) -> None:
    """SIGTERM while some requests take too long: those have `lost` lines and roots, all others theirs."""
    environment = {**exporting_to(exported_to), "OTEL_PYTHON_CANONICAL_SLOW_SECONDS": "0.5"}
    with (
        started(worker_class, tmp_path, "--graceful-timeout", "1", **environment) as server,
        ThreadPoolExecutor(1) as stuck,
        under_load(server) as load,
    ):
        answer = stuck.submit(send, server, "/sleeps/")
        eventually(
            lambda: [line for line in server.lines() if line["event_type"] == "slow"],
            lambda: said_by(server),
        )
        os.kill(server.pid, signal.SIGTERM)
        server.process.wait(PATIENCE_S)
        assert answer.result() == b""
        load.stop()
        lines = [line for line in server.lines() if line["req_id"] == request_id("/sleeps/")]
        slow, lost = lines
        assert slow["event_type"] == "slow"
        assert (lost["event_type"], lost["lost_cause"]) == ("lost", "shutdown")
        assert load.account().keys() <= {"request", "lost"}
        assert_each_line_has_its_root(load, exported_to)
        assert exported_to.root_of(lost).attributes["error.type"] == "shutdown"
