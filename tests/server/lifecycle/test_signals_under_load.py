"""Signals and commands to a busy server: every request still has its one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.busy_servers import (
    WORKERS,
    assert_books_balance,
    assert_descriptors_are,
    assert_each_line_has_its_root,
    assert_pool_is_counted,
    busy,
    exporting_to,
    gather_lines,
    in_sync,
    in_threads,
)
from tests.support.environments import clean_environment
from tests.support.load import said_by
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import descriptors_of, has_children
from tests.support.servers import GUNICORN_VERSION, PATIENCE_S, Server, eventually

pytestmark = pytest.mark.soak


def replaced_by(server: Server) -> int:
    """Have the arbiter start another one beside itself (SIGUSR2); return the new one's pid."""
    before = set(server.workers())
    starts = server.stderr.read_text().count("Booting worker")
    os.kill(server.pid, signal.SIGUSR2)
    server.wait_for(rf"(?s)(Booting worker.*){{{starts + WORKERS}}}")
    [new] = {pid for pid in server.workers() if pid not in before and has_children(pid)}
    return new


@in_threads
def test_replaced_arbiter(worker_class: str, exported_to: OtlpSink, tmp_path: Path) -> None:
    """SIGUSR2, then SIGTERM to the old arbiter: the new one's workers take over."""
    with busy(worker_class, tmp_path, **exporting_to(exported_to)) as (server, load):
        new = replaced_by(server)
        load.wait_for_answers()
        os.kill(server.pid, signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        load.wait_for_answers()
        assert_books_balance(load, worker_class)
        assert_each_line_has_its_root(load, exported_to)
        os.kill(new, signal.SIGTERM)
    assert not load.refused


@in_threads
def test_replacement_that_is_taken_back(worker_class: str, tmp_path: Path) -> None:
    """SIGUSR2, then SIGTERM to the new arbiter: the old one goes on as before."""
    with busy(worker_class, tmp_path) as (server, load):
        before = descriptors_of(server.pid)
        new = replaced_by(server)
        load.wait_for_answers()
        os.kill(new, signal.SIGTERM)
        eventually(lambda: new not in server.workers(), lambda: said_by(server))
        load.wait_for_answers()
        assert_books_balance(load, worker_class)
        assert_descriptors_are(server, before)
    assert not load.refused


@in_sync
def test_rotated_files(worker_class: str, tmp_path: Path) -> None:
    """SIGUSR1 after a rename, and again: no line is torn or lost between the files."""
    output = tmp_path / "canonical.log"
    with busy(worker_class, tmp_path, OTEL_PYTHON_CANONICAL_OUTPUT=str(output)) as (server, load):
        before = descriptors_of(server.pid)
        for number in range(3):
            output.rename(tmp_path / f"canonical.log.{number}")
            os.kill(server.pid, signal.SIGUSR1)
            eventually(output.exists, lambda: said_by(server))
            load.wait_for_answers()
        load.stop()
        gather_lines(load, tmp_path / "all", lambda: tmp_path.glob("canonical.log*"))
        assert load.account().keys() == {"request"}
        assert output.read_bytes()
        assert_descriptors_are(server, before)


@in_threads
def test_more_and_fewer_workers(worker_class: str, tmp_path: Path) -> None:
    """SIGTTIN and SIGTTOU: each line counts the workers that are there."""
    with busy(worker_class, tmp_path) as (server, load):
        before = descriptors_of(server.pid)
        for number, count in [(signal.SIGTTIN, 3), (signal.SIGTTIN, 4), (signal.SIGTTOU, 3)]:
            os.kill(server.pid, number)
            eventually(lambda c=count: len(server.workers()) == c, lambda: said_by(server))
            load.wait_for_answers()
        assert_books_balance(load, worker_class, workers=3)
        os.kill(server.pid, signal.SIGTTOU)
        assert_pool_is_counted(server, worker_class)
        assert_descriptors_are(server, before)


def test_window_change_in_foreground(tmp_path: Path) -> None:
    """SIGWINCH does nothing to a server that is no daemon."""
    with busy("sync", tmp_path) as (server, load):
        workers = set(server.workers())
        for _ in range(3):
            os.kill(server.pid, signal.SIGWINCH)
            load.wait_for_answers()
        assert set(server.workers()) == workers
        assert_books_balance(load, "sync")


@pytest.mark.skipif(GUNICORN_VERSION < (25, 1), reason="Gunicorn has a control socket since 25.1")
@in_threads
def test_control_socket(worker_class: str, tmp_path: Path) -> None:
    """`gunicornc`: workers added, removed and killed through it are counted as by signals."""
    with busy(worker_class, tmp_path) as (server, load):

        def control(*words: str) -> str:
            command = [str(Path(sys.executable).parent / "gunicornc"), "-c", " ".join(words)]
            environment = clean_environment(tmp_path, {})
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            assert done.returncode == 0, done
            return done.stdout.decode()

        before = set(server.workers())
        control("worker", "add", "2")
        eventually(lambda: len(server.workers()) == WORKERS + 2, lambda: said_by(server))
        load.wait_for_answers()
        control("worker", "kill", str(min(before)))
        eventually(
            lambda: len(server.workers()) == WORKERS + 2 and min(before) not in server.workers(),
            lambda: said_by(server),
        )
        control("worker", "remove", "2")
        eventually(lambda: len(server.workers()) == WORKERS, lambda: said_by(server))
        control("reload")
        load.wait_for_answers()
        assert_books_balance(load, worker_class)
