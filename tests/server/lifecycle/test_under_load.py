"""Every turn in the life of a server, while it is busy: no request goes without its one line.

Each test starts a real Gunicorn, keeps it busy from several clients, lets the turn happen, and draws
up the account: answered requests are lines, the pool is counted right afterwards, the arbiter holds as
many descriptors as before, no traceback was printed and no process is left.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.server.exports.test_spans_of_lost_requests import is_alive
from tests.server.lifecycle.test_reloads import closed_port, renew_workers
from tests.server.lifecycle.test_timeouts import request_id, send
from tests.support.load import (
    CLIENTS,
    WARM,
    Load,
    descriptors_of,
    processes_of,
    said_by,
    under_load,
)
from tests.support.otlp_sink import OtlpSink, otlp_sink
from tests.support.servers import (
    GUNICORN,
    GUNICORN_VERSION,
    INSTRUMENT,
    PATIENCE_S,
    PROGRAMS,
    Line,
    Server,
    clean_environment,
    eventually,
    gunicorn,
)

IS_SOAK = os.environ.get("OTEL_CANONICAL_SOAK") == "1"

CLASSES = {
    "sync": ("-k", "sync"),
    "gthread": ("-k", "gthread", "--threads", "3"),
    "gevent": ("-k", "gevent", "--worker-connections", "50"),
}
THREADS = {"sync": 1, "gthread": 3, "gevent": None}
WORKERS = 2
NOBODY = "65534"

#: What each turn is tried with; with OTEL_CANONICAL_SOAK=1 every turn with every class.
in_every_class = pytest.mark.parametrize("worker_class", CLASSES)
in_two_classes = (
    in_every_class if IS_SOAK else pytest.mark.parametrize("worker_class", ["sync", "gthread"])
)
in_threads = in_every_class if IS_SOAK else pytest.mark.parametrize("worker_class", ["gthread"])


@pytest.fixture
def exported_to() -> Iterator[OtlpSink]:
    """A receiver of OTLP."""
    with otlp_sink() as sink:
        yield sink


def exporting(sink: OtlpSink) -> dict[str, str]:
    """Return the variables with which a server exports to `sink`."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_PYTHON_CANONICAL_FLUSH_SECONDS": "10",  # this machine may be busy
    }


@contextlib.contextmanager
def started(
    worker_class: str, directory: Path, *arguments: str, **environment: str
) -> Iterator[Server]:
    """Start a server; when left check that it left nothing behind and printed no traceback."""
    arguments = (*CLASSES[worker_class], *arguments)
    with gunicorn("stuck", directory, *arguments, workers=WORKERS, **environment) as server:
        if GUNICORN_VERSION >= (25, 1):
            server.wait_for("Control socket listening")  # the last that an arbiter opens
        yield server
    assert_nothing_is_left(server, directory)


@contextlib.contextmanager
def busy(
    worker_class: str, directory: Path, *arguments: str, **environment: str
) -> Iterator[tuple[Server, Load]]:
    """Start a server as `started` does and keep it busy."""
    with (
        started(worker_class, directory, *arguments, **environment) as server,
        under_load(server) as load,
    ):
        yield server, load


def assert_nothing_is_left(server: Server, directory: Path) -> None:
    """Fail if a process of the server's is left, or a traceback of ours among what it has printed."""
    eventually(
        lambda: not processes_of(directory),
        lambda: f"still there: {processes_of(directory)}\n{said_by(server)}",
    )
    report = server.report()
    # Gunicorn's control socket has some of its own, when it is closed around a client.
    tracebacks = re.findall(r"(?s)Traceback.*?(?=\n\[|\nevent_type=|\Z)", report)
    assert not [text for text in tracebacks if "otel_canonical/" in text]
    assert "it is lost" not in report  # what a leaving worker says of telemetry it could not export


def assert_pool_is_counted(server: Server, worker_class: str, workers: int = WORKERS) -> Line:
    """Ask the quiet server; fail unless it sees itself as it is: `workers`, one of them busy."""
    threads = THREADS[worker_class]
    expected = {
        "g_w_count": str(workers),
        "g_w_active": "1",
        "g_t_active": "1",
        "g_t_count": None if threads is None else str(workers * threads),
    }
    seen: list[Line] = []

    def is_right() -> bool:
        # Again and again: workers that were told to leave may take their time.
        _, line = server.ask("/ok/")
        seen.append(line)
        return {key: line.get(key) for key in expected} == expected

    eventually(is_right, lambda: f"{seen[-1]} instead of {expected}\n{said_by(server)}")
    return seen[-1]


def gather_lines(load: Load, whole: Path, files: Callable[[], Iterable[Path]]) -> None:
    """Have the lines read from `whole`: what stands in all files, once each answer has its line there."""
    load.server.stdout = whole

    def is_whole() -> bool:
        whole.write_bytes(b"".join(file.read_bytes() for file in files()))
        return load.answered <= {line["req_id"] for line in load.lines()}

    eventually(is_whole, lambda: said_by(load.server))


def assert_books_balance(load: Load, worker_class: str, workers: int = WORKERS) -> Line:
    """Stop the load; fail unless each good answer is a line, and the quiet pool is counted right."""
    load.stop()
    assert load.account().keys() == {"request"}
    return assert_pool_is_counted(load.server, worker_class, workers)


def assert_descriptors_are(server: Server, before: Counter[str]) -> None:
    """Fail unless the arbiter comes to hold what it held before."""
    eventually(
        lambda: descriptors_of(server.pid) == before,
        lambda: f"before {before}\nafter {descriptors_of(server.pid)}",
    )


def assert_each_line_has_its_root(load: Load, sink: OtlpSink) -> None:
    """Fail unless each line's trace has arrived with exactly one root."""
    wanted = {line["trace_id"] for line in load.lines()}

    def roots() -> list[str]:
        return [span.trace_id for span in list(sink.spans) if span.kind == "SERVER"]

    eventually(
        lambda: wanted <= set(roots()),
        lambda: f"{len(wanted - set(roots()))} of {len(wanted)} roots missing",
    )
    found = [trace_id for trace_id in roots() if trace_id in wanted]
    assert len(found) == len(wanted)


@in_two_classes
def test_reload(worker_class: str, tmp_path: Path) -> None:
    """SIGHUP: old workers finish what they have, new ones take over."""
    with busy(worker_class, tmp_path) as (server, load):
        before = descriptors_of(server.pid)
        for _ in range(2):
            renew_workers(server)
            load.wait_for_answers()
        assert_books_balance(load, worker_class)
        assert_descriptors_are(server, before)
    assert not load.refused


@in_every_class
def test_reload_when_exporting(worker_class: str, exported_to: OtlpSink, tmp_path: Path) -> None:
    """SIGHUP: what the old workers' exporters still held arrives."""
    with busy(worker_class, tmp_path, **exporting(exported_to)) as (server, load):
        renew_workers(server)
        load.wait_for_answers()
        load.stop()
        load.account()
        assert_each_line_has_its_root(load, exported_to)


def test_reload_that_changes_our_output(tmp_path: Path) -> None:
    """SIGHUP with another file for the lines: the arbiter doesn't keep the old one."""
    conf, outputs = tmp_path / "conf.py", [tmp_path / f"{n}.log" for n in range(4)]

    def write_to(output: Path) -> None:
        conf.write_text(f"raw_env = ['OTEL_PYTHON_CANONICAL_OUTPUT={output}']\n")

    write_to(outputs[0])
    with busy("sync", tmp_path, "-c", str(conf)) as (server, load):
        for output in outputs[1:]:
            write_to(output)
            renew_workers(server)
            load.wait_for_answers()
        load.stop()
        gather_lines(load, tmp_path / "all", lambda: outputs)
        assert load.account().keys() == {"request"}
        assert [str(output) in descriptors_of(server.pid) for output in outputs] == [
            *(False, False, False),
            True,
        ]


def replaced_by(server: Server) -> int:
    """Have the arbiter start another one beside itself (SIGUSR2); return the new one's pid."""
    before = set(server.workers())
    starts = server.stderr.read_text().count("Booting worker")
    os.kill(server.pid, signal.SIGUSR2)
    server.wait_for(rf"(?s)(Booting worker.*){{{starts + WORKERS}}}")
    [new] = {pid for pid in server.workers() if pid not in before and has_children(pid)}
    return new


def has_children(pid: int) -> bool:
    """Return whether a process has children."""
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text())


@in_two_classes
def test_replaced_arbiter(worker_class: str, exported_to: OtlpSink, tmp_path: Path) -> None:
    """SIGUSR2, then SIGTERM to the old arbiter: the new one's workers take over."""
    with busy(worker_class, tmp_path, **exporting(exported_to)) as (server, load):
        new = replaced_by(server)
        load.wait_for_answers()
        os.kill(server.pid, signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        load.wait_for_answers()
        assert_books_balance(load, worker_class)
        assert_each_line_has_its_root(load, exported_to)
        os.kill(new, signal.SIGTERM)
    assert not load.refused


@in_every_class
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


@in_two_classes
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


@in_every_class
def test_recycled_workers(worker_class: str, exported_to: OtlpSink, tmp_path: Path) -> None:
    """`--max-requests` with jitter: a worker's last requests have their lines, and roots."""
    arguments = ("--max-requests", "20", "--max-requests-jitter", "10")
    with busy(worker_class, tmp_path, *arguments, **exporting(exported_to)) as (server, load):
        eventually(
            lambda: len({line["g_pid"] for line in load.lines()}) >= 3 * WORKERS,
            lambda: said_by(server),
        )
        load.stop()
        assert load.account().keys() <= {"request"}
        assert_pool_is_counted(server, worker_class)
        assert_each_line_has_its_root(load, exported_to)


@in_two_classes
def test_workers_that_are_told_to_quit(worker_class: str, tmp_path: Path) -> None:
    """SIGQUIT to workers in the middle of their requests: what was answered has its line all the same."""
    # Not `busy`: Gunicorn itself prints a traceback of each SystemExit.
    with (
        gunicorn("stuck", tmp_path, *CLASSES[worker_class], workers=WORKERS) as server,
        under_load(server) as load,
    ):
        for number in range(8):
            workers = eventually(server.workers, lambda: said_by(server))
            os.kill(workers[number % len(workers)], signal.SIGQUIT)
            load.wait_for_answers(WARM // 2)
        load.stop()
        load.account(only_good=False)
        assert_pool_is_counted(server, worker_class)


#: Ways to start that change what is where: each is reloaded once under load.
STARTS: dict[str, tuple[str, ...]] = {
    "preload": ("--preload",),
    "worker-tmp-dir": ("--worker-tmp-dir", "/dev/shm"),
    "capture-output": ("--capture-output", "--error-logfile", "{directory}/stderr.log"),
    "two-binds": ("--bind", "unix:{directory}/socket"),
    "reuse-port": ("--reuse-port",),
}


@pytest.mark.parametrize("start", STARTS)
@in_threads
def test_ways_to_start(start: str, worker_class: str, tmp_path: Path) -> None:
    """Options that move things about: the account balances, also over a reload."""
    arguments = [word.format(directory=tmp_path) for word in STARTS[start]]
    # Port 0 would be another one in each worker.
    bind = f"127.0.0.1:{closed_port()}" if start == "reuse-port" else "127.0.0.1:0"
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


def test_switched_off_and_on_by_reloads(tmp_path: Path) -> None:
    """OTEL_PYTHON_CANONICAL_ENABLED changes with a reload: no line while off, right counts when on."""
    conf = tmp_path / "conf.py"

    def enable(enabled: str) -> None:
        conf.write_text(f"raw_env = ['OTEL_PYTHON_CANONICAL_ENABLED={enabled}']\n")

    enable("true")
    with started("sync", tmp_path, "-c", str(conf)) as server:
        before = descriptors_of(server.pid)
        with under_load(server) as load:
            enable("false")
            renew_workers(server)
            lines = len(load.lines())
            load.wait_for_answers()
        assert len(load.lines()) == lines
        enable("true")
        renew_workers(server)
        assert_pool_is_counted(server, "sync")
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
            *("--bind", "127.0.0.1:0", "--workers", str(WORKERS), *CLASSES[worker_class]),
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
    arguments = (*CLASSES[worker_class], "-c", str(conf))
    environment = exporting(exported_to)
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


def process_that_runs(room: str, home: Path) -> int | None:
    """Return the pid of the process of ours that runs a module, None if there is none."""
    for pid, command in processes_of(home).items():
        if f"otel_canonical.{room}" in command:
            return pid
    return None


@in_two_classes
def test_arbiter_that_is_killed(worker_class: str, exported_to: OtlpSink, tmp_path: Path) -> None:
    """SIGKILL to the arbiter: its workers finish what they have, with lines, and all of it ends."""
    shared_memory = sorted(os.listdir("/dev/shm"))
    with started(worker_class, tmp_path, **exporting(exported_to)) as server:
        assert server.send(b"GET /kills-itself/ HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        eventually(lambda: process_that_runs("reporter", tmp_path), lambda: said_by(server))
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
    assert sorted(os.listdir("/dev/shm")) == shared_memory


@in_two_classes
def test_graceful_timeout_that_runs_out(
    worker_class: str, exported_to: OtlpSink, tmp_path: Path
) -> None:
    """SIGTERM while some requests take too long: those have `lost` lines and roots, all others theirs."""
    environment = {**exporting(exported_to), "OTEL_PYTHON_CANONICAL_SLOW_SECONDS": "0.5"}
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


@pytest.mark.parametrize("broken", ["import", "boot"])
@in_threads
def test_reload_of_what_no_longer_starts(
    broken: str, worker_class: str, exported_to: OtlpSink, tmp_path: Path
) -> None:
    """SIGHUP to an app that fails: Gunicorn gives up; the user reads why, and not a word of ours."""
    conf, module = tmp_path / "conf.py", tmp_path / "site_of_today.py"
    module.write_text("from stuck import application\n")
    conf.write_text("")
    arguments = (*CLASSES[worker_class], "-c", str(conf), "--pythonpath", str(tmp_path))
    with gunicorn(
        "site_of_today", tmp_path, *arguments, workers=WORKERS, **exporting(exported_to)
    ) as server:
        with under_load(server) as load:
            said = server.stderr.stat().st_size
            if broken == "import":
                module.write_text("import no_such_package_today\n")
            else:
                conf.write_text(
                    "def post_fork(server, worker):\n    raise OSError('no such day')\n"
                )
            os.kill(server.pid, signal.SIGHUP)
            assert server.process.wait(PATIENCE_S) in (
                1,
                3,
            )  # 1: Gunicorn's own, of two failing at once
            eventually(lambda: load.refused > CLIENTS, lambda: said_by(server))
        assert load.account().keys() == {"request"}
        assert_each_line_has_its_root(load, exported_to)
    words = server.stderr.read_text()[said:]
    assert ("no_such_package_today" if broken == "import" else "no such day") in words
    assert not re.search("otel-canonical[ :]", words)  # it may be in a path of the traceback
    eventually(lambda: not processes_of(tmp_path), lambda: str(processes_of(tmp_path)))


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


@in_threads
def test_reload_when_a_file_changes(worker_class: str, tmp_path: Path) -> None:
    """`--reload`: an edited app is served anew; one with a syntax error answers 500, with lines."""
    module = tmp_path / "edited.py"
    module.write_text("from stuck import application\n")
    arguments = ("--reload", "--reload-engine", "poll", "--pythonpath", str(tmp_path))
    with gunicorn(
        "edited", tmp_path, *CLASSES[worker_class], *arguments, workers=WORKERS
    ) as server:
        with under_load(server) as load:
            old = set(server.workers())
            moments = itertools.count(time.time_ns(), 10**9)

            def is_touched() -> bool:
                # Again and again: a change before a worker's first look isn't one to it.
                moment = next(moments)
                os.utime(module, ns=(moment, moment))
                return True

            eventually(
                lambda: is_touched() and not old & set(server.workers()), lambda: said_by(server)
            )
            eventually(lambda: len(server.workers()) == WORKERS, lambda: said_by(server))
            load.wait_for_answers()
        assert load.account().keys() == {"request"}
        assert_pool_is_counted(server, worker_class)
        assert "Traceback" not in server.report()
        module.write_text("this is no Python\n")
        eventually(
            lambda: is_touched() and server.get("/ok/").status == 500, lambda: said_by(server)
        )
        answer, line = server.ask("/ok/")
        assert (answer.status, line["resp_status"], line["event_type"]) == (500, "500", "request")
    eventually(lambda: not processes_of(tmp_path), lambda: str(processes_of(tmp_path)))


@in_two_classes
def test_workers_of_another_user(worker_class: str) -> None:
    """`--user` and `--group`: workers without the arbiter's rights write, and reopen a rotated file."""
    user = NOBODY if os.geteuid() == 0 else str(os.geteuid())
    group = NOBODY if os.geteuid() == 0 else str(os.getegid())
    # Not pytest's directory, which nobody else may enter. Loaded by the arbiter: so may be our Python's.
    with tempfile.TemporaryDirectory(prefix="another-user-") as name:
        directory, logs = Path(name), Path(name) / "logs"
        logs.mkdir()
        os.chown(logs, int(user), int(group))
        directory.chmod(0o755)
        output, rotated = logs / "canonical.log", logs / "canonical.log.1"
        arguments = (*CLASSES[worker_class], "--user", user, "--group", group, "--preload")
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
