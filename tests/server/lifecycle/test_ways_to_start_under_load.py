"""Unusual ways to start a server, under load: every request still has its one line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.addresses import unused_address
from tests.support.busy_servers import (
    LOADED_CLASSES,
    WORKERS,
    assert_books_balance,
    assert_nothing_is_left,
    assert_pool_is_counted,
    exporting_to,
    gather_lines,
    in_threads,
    started,
)
from tests.support.environments import INSTRUMENT, clean_environment
from tests.support.load import said_by, under_load
from tests.support.operating import renew_workers
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import descriptors_of, is_alive, process_that_runs, processes_of
from tests.support.servers import GUNICORN, GUNICORN_VERSION, PROGRAMS, Server, eventually, gunicorn
from tests.support.soak import some_of

pytestmark = pytest.mark.soak

NOBODY = "65534"

#: Ways to start that change what is where: each is reloaded once under load.
STARTS: dict[str, tuple[str, ...]] = {
    "preload": ("--preload",),
    "worker-tmp-dir": ("--worker-tmp-dir", "/dev/shm"),
    "capture-output": ("--capture-output", "--error-logfile", "{directory}/stderr.log"),
    "two-binds": ("--bind", "unix:{directory}/socket"),
    "reuse-port": ("--reuse-port",),
}


@pytest.mark.parametrize("start", some_of(STARTS, "preload", "capture-output", "two-binds"))
@in_threads
def test_ways_to_start(start: str, worker_class: str, tmp_path: Path) -> None:
    """Options that move things about: the account balances, also over a reload."""
    arguments = [word.format(directory=tmp_path) for word in STARTS[start]]
    # Port 0 would be another one in each worker.
    bind = unused_address() if start == "reuse-port" else "127.0.0.1:0"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(started(worker_class, tmp_path, *arguments, bind=bind))
        if start == "capture-output":
            server.stdout = server.stderr  # everything that is printed goes there
        if start == "two-binds":
            second = replace(server, address=str(tmp_path / "socket"))
            second_load = stack.enter_context(under_load(second))
        load = stack.enter_context(under_load(server))
        renew_workers(server)
        load.wait_for_answers()
        if start == "two-binds":
            second_load.wait_for_answers()
            second_load.stop()
        line = assert_books_balance(load, worker_class)
        if start != "reuse-port":
            assert "g_backlog" in line
        # There the sockets are the workers' own, and new ones are found within a second.
        eventually(lambda: "g_backlog" in server.ask("/ok/")[1], server.report)


@dataclass
class Daemon:
    """A process that isn't our child, as far as a `Server` needs one."""

    pid: int

    def poll(self) -> int | None:
        """Return None while it lives."""
        return None if Path(f"/proc/{self.pid}").is_dir() else 0


@contextlib.contextmanager
def daemon(
    worker_class: str, directory: Path, *arguments: str, **environment: str
) -> Iterator[Server]:
    """Start a server that goes into the background, with all that it prints in one file."""
    log, pidfile = directory / "errors.log", directory / "pid"
    subprocess.run(
        [
            *(*INSTRUMENT, *GUNICORN, "--daemon", "--pid", pidfile, "--error-logfile", log),
            *("--bind", "127.0.0.1:0", "--workers", str(WORKERS), *LOADED_CLASSES[worker_class]),
            *(*arguments, "stuck"),
        ],
        cwd=PROGRAMS,
        env=clean_environment(directory, environment),
        check=True,
    )
    eventually(lambda: log.exists() and pidfile.exists(), lambda: "it never came up")
    server = Server(Daemon(int(pidfile.read_text())), log, log)
    try:
        listening = server.wait_for(r"Listening at: http://([\d.]+):(\d+)")
        server.address = (listening[1], int(listening[2]))
        server.wait_for(rf"(?s)(Booting worker with pid: \d+.*){{{WORKERS}}}")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGTERM)
    assert_nothing_is_left(server, directory)


@in_threads
def test_daemon(worker_class: str, tmp_path: Path) -> None:
    """`--daemon` with `--capture-output`: the lines are in the error log, also when that is rotated.

    SIGWINCH takes a daemon's workers away, SIGHUP brings them back.
    """
    rotated = tmp_path / "errors.log.1"
    with daemon(worker_class, tmp_path, "--capture-output") as server:
        with under_load(server) as load:
            log = server.stdout
            log.rename(rotated)
            os.kill(server.pid, signal.SIGUSR1)
            load.wait_for_answers()
            os.kill(server.pid, signal.SIGWINCH)
            eventually(lambda: not server.workers(), lambda: said_by(server))
            os.kill(server.pid, signal.SIGHUP)
            eventually(lambda: len(server.workers()) == WORKERS, lambda: said_by(server))
            load.wait_for_answers()
        gather_lines(load, tmp_path / "all", lambda: (rotated, log))
        assert load.account().keys() == {"request"}
        server.stdout = log
        assert_pool_is_counted(server, worker_class)


def test_daemon_says_that_nobody_reads_its_lines(tmp_path: Path) -> None:
    """A daemon's stdout is /dev/null: the log says so, names the variable, and what to do."""
    silent, heard = tmp_path / "silent", tmp_path / "heard"
    silent.mkdir()
    heard.mkdir()
    with daemon("sync", silent) as server:
        server.wait_for(
            r"\[WARNING\] OTEL_PYTHON_CANONICAL_OUTPUT='stdout' is /dev/null in a daemon"
        )
        assert server.get("/ok/").status == 200
    output = tmp_path / "canonical.log"
    with daemon("sync", heard, OTEL_PYTHON_CANONICAL_OUTPUT=str(output)) as server:
        server.stdout = output
        assert_pool_is_counted(server, "sync")
        assert "is /dev/null" not in server.stderr.read_text()


DIRTY_ARBITER = r"Spawned dirty arbiter \(pid: (\d+)\)"


@pytest.mark.skipif(GUNICORN_VERSION < (25, 0), reason="Gunicorn has dirty workers since 25")
@in_threads
def test_dirty_workers(worker_class: str, exported_to: OtlpSink, tmp_path: Path) -> None:
    """Gunicorn's dirty workers serve no requests: no line, no place in the pool, no hold on anything."""
    conf = tmp_path / "conf.py"
    conf.write_text("dirty_apps, dirty_workers = ['dirty_tasks:Tasks'], 2\n")
    arguments = (*LOADED_CLASSES[worker_class], "-c", str(conf))
    environment = exporting_to(exported_to)
    paths = ("/asks-dirty-worker/", "/ok/")
    with gunicorn(
        "asks_dirty_worker", tmp_path, *arguments, workers=WORKERS, **environment
    ) as server:
        server.wait_for(r"(?s)(Initialized dirty app.*){2}")
        with under_load(server, paths) as load:
            load.wait_for_answers()
        assert load.account().keys() == {"request"}
        assert_pool_is_counted(server, worker_class)
        # The reporter is there before the dirty arbiter's second life.
        assert server.send(b"GET /kills-itself/ HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        reporter = eventually(
            lambda: process_that_runs("reporter", tmp_path), lambda: said_by(server)
        )
        os.kill(int(server.wait_for(DIRTY_ARBITER)[1]), signal.SIGKILL)
        dirty = int(server.wait_for(rf"(?s){DIRTY_ARBITER}.*{DIRTY_ARBITER}.*Initialized")[2])
        assert not [name for name in descriptors_of(dirty) if "otel-canonical" in name]
        assert_pool_is_counted(server, worker_class)
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: not is_alive(reporter), lambda: str(processes_of(tmp_path)))
    assert_nothing_is_left(server, tmp_path)


@in_threads
def test_workers_of_another_user(worker_class: str) -> None:
    """`--user` and `--group`: workers without the arbiter's rights write, and reopen a rotated file."""
    user = NOBODY if os.geteuid() == 0 else str(os.geteuid())
    group = NOBODY if os.geteuid() == 0 else str(os.getegid())
    # Not pytest's directory: other users may not enter it. The app is preloaded: nor may they read this Python.
    with tempfile.TemporaryDirectory(prefix="another-user-") as name:
        directory, logs = Path(name), Path(name) / "logs"
        logs.mkdir()
        os.chown(logs, int(user), int(group))
        directory.chmod(0o755)
        output, rotated = logs / "canonical.log", logs / "canonical.log.1"
        arguments = (*LOADED_CLASSES[worker_class], "--user", user, "--group", group, "--preload")
        with gunicorn(
            "plain_wsgi",
            directory,
            *arguments,
            workers=WORKERS,
            OTEL_PYTHON_CANONICAL_OUTPUT=str(output),
        ) as server:
            server.stdout = directory / "all"
            with under_load(server, paths=("/ok/",)) as load:
                output.rename(rotated)
                os.kill(server.pid, signal.SIGUSR1)
                eventually(output.exists, lambda: server.stderr.read_text())
                load.wait_for_answers()

            def balance() -> bool:
                server.stdout.write_bytes(rotated.read_bytes() + output.read_bytes())
                return load.answered <= {line["req_id"] for line in load.lines()}

            eventually(balance, lambda: said_by(server))
            assert load.account().keys() == {"request"}
            assert {str(output.stat().st_uid), str(rotated.stat().st_uid)} == {user}
            server.stdout = output
            line = assert_pool_is_counted(server, worker_class)
            status = Path(f"/proc/{line['g_pid']}/status").read_text()
            assert f"\nUid:\t{user}\t" in status
        assert_nothing_is_left(server, directory)
