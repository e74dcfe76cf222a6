"""Nobody reads standard output: requests, heartbeats, restarts and stops go on as if somebody did."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_canonical.event import logfmt
from otel_canonical.event.patience import PATIENCE_MS
from tests.support.descriptors import (
    FOREIGN_KINDS,
    KINDS,
    connected,
    needs_root,
    read_now,
    without_override,
)
from tests.support.environments import INSTRUMENT, clean_environment
from tests.support.operating import wait_until_all_serve
from tests.support.servers import GUNICORN, PATIENCE_S, PROGRAMS, Server, eventually, gunicorn, stop
from tests.support.soak import some_of

#: Of Gunicorn's heartbeat; a worker that waits for a reader is killed after it.
TIMEOUT_S = 3
GRACEFUL_TIMEOUT_S = 10

CLASSES = {
    "sync": ("stuck", "-k", "sync"),
    "gthread": ("stuck", "-k", "gthread", "--threads", "3"),
    "gevent": ("stuck", "-k", "gevent"),
    "asgi": ("stuck_asgi", "-k", "asgi"),
}
TIMES = ("--timeout", str(TIMEOUT_S), "--graceful-timeout", str(GRACEFUL_TIMEOUT_S))
LOST = "otel-canonical failed while writing a line to stdout"


@contextlib.contextmanager
def hanging(
    worker_class: str,
    directory: Path,
    kind: str,
    *,
    is_foreign: bool = False,
    **environment: str,
) -> Iterator[tuple[Server, int]]:
    """Start a server whose standard output is soon full; return it and what nobody reads from."""
    app, *arguments = CLASSES[worker_class]
    command = [*INSTRUMENT, *GUNICORN]
    if is_foreign:
        command = [*without_override(), *command]
    with connected(kind, directory, is_foreign=is_foreign) as (reader, writer):
        if kind in ("pipe", "FIFO"):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        with gunicorn(
            app,
            directory,
            *(*arguments, *TIMES),
            command=command,
            stdout=writer,
            expects_report=True,
            **environment,
        ) as server:
            yield server, reader


def fill(server: Server) -> int:
    """Ask until a line was lost; return how many requests that took."""
    count = 0
    while LOST not in server.stderr.read_text():
        ask(server, f"fills-{count}")
        count += 1
        assert count < 1000, server.report()
    return count


def ask(server: Server, request_id: str) -> float:
    """Ask for a page with a line of 2 kB; return how long that took."""
    started = time.monotonic()
    answer = server.get("/ok/", X_Request_ID=request_id, User_Agent="u" * 2000)
    assert answer.status == 200
    return time.monotonic() - started


def fill_to_the_brim(writer: int) -> None:
    """Leave no room for a single byte in a pipe."""
    own = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(own, b"\n" * size)
    os.close(own)


def assert_goes_on(server: Server) -> None:
    """Ask for longer than a worker may be silent."""
    workers = server.workers()
    until, took = time.monotonic() + TIMEOUT_S + 1.5, []
    pause = threading.Event()
    while time.monotonic() < until or len(took) <= 10:
        took.append(ask(server, f"goes-on-{len(took)}"))
        pause.wait(0.03)
    assert server.workers() == workers, server.report()
    assert "WORKER TIMEOUT" not in server.stderr.read_text()
    took.sort()
    p50, p99 = (took[len(took) * percent // 100] * 1000 for percent in (50, 99))
    print(f"{len(took)} requests: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {took[-1] * 1000:.1f} ms")
    # Half of them, so that a busy machine may delay some: each would wait if one did.
    assert p50 < PATIENCE_MS, took


def assert_stops(server: Server) -> None:
    """Tell it to stop, and see that nothing had to be killed."""
    told = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    assert server.process.wait(PATIENCE_S) == 0
    assert time.monotonic() - told < GRACEFUL_TIMEOUT_S
    said = server.stderr.read_text()
    assert "SIGKILL" not in said, said
    assert "WORKER TIMEOUT" not in said, said


def assert_whole(text: bytes, *, may_tear: bool = False) -> None:
    """See that each line begins and ends as a line does; the last may be torn.

    Args:
        text: what was read.
        may_tear: whether others may be torn, too: a terminal takes a part of a line, and room comes by
            and by. No two lines are one even then.
    """
    for whole in text[: text.rfind(b"\n") + 1].decode().splitlines():
        if not whole:
            continue
        if may_tear and not re.search(r" req_id=\S+\Z", whole):
            assert whole.startswith("ts="[: len(whole)]), text
            assert whole.count("event_type=") <= 1, text
            continue
        line = logfmt.parse(whole)
        assert line["event_type"] in ("request", "lost"), text
        assert line["req_id"], text
        assert "g_pid" in line, text


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_for_a_reader(kind: str, tmp_path: Path) -> None:
    """A pipe, a FIFO, a journal's socket, a terminal: what is lost is lines, and they are reported."""
    with hanging("sync", tmp_path, kind) as (server, reader):
        fill(server)
        assert_goes_on(server)
        assert_stops(server)
        assert_whole(read_now(reader), may_tear=kind == "terminal")


@needs_root
@pytest.mark.soak
@pytest.mark.parametrize("kind", some_of(FOREIGN_KINDS, "pipe", "terminal"))
def test_nothing_waits_for_a_reader_of_another_user(kind: str, tmp_path: Path) -> None:
    """An entrypoint that changes the user (`gosu`, `su-exec`, `setpriv`): it can't be opened anew."""
    with hanging("sync", tmp_path, kind, is_foreign=True) as (server, reader):
        fill(server)
        assert_goes_on(server)
        assert_stops(server)
        assert_whole(read_now(reader), may_tear=kind == "terminal")


@needs_root
@pytest.mark.soak
@pytest.mark.parametrize(
    ("worker_class", "kind"),
    some_of(
        itertools.product(["gthread", "gevent", "asgi"], ["pipe", "FIFO"]),
        *(("gthread", "pipe"), ("gevent", "FIFO"), ("asgi", "pipe")),
    ),
)
def test_nothing_waits_in_any_worker_class(worker_class: str, kind: str, tmp_path: Path) -> None:
    """A pipe that can't be opened anew is the hardest; `/dev/stdout` is the same as standard output."""
    with hanging(
        worker_class,
        tmp_path,
        kind,
        is_foreign=True,
        OTEL_PYTHON_CANONICAL_OUTPUT="/dev/stdout" if kind == "pipe" else "-",
    ) as (server, reader):
        fill(server)
        assert_goes_on(server)
        assert_stops(server)
        assert_whole(read_now(reader))


@pytest.mark.soak
@pytest.mark.parametrize(
    ("worker_class", "owner"),
    [
        *((worker_class, "ours") for worker_class in some_of(CLASSES, "gthread", "asgi")),
        *(
            pytest.param(worker_class, "another user's", marks=needs_root)
            for worker_class in some_of(CLASSES, "sync")
        ),
    ],
)
def test_arbiter_goes_on_when_lost_lines_have_no_room(
    worker_class: str, owner: str, tmp_path: Path
) -> None:
    """Its `lost` lines are given up; workers are started, signals heeded."""
    with hanging(worker_class, tmp_path, "FIFO", is_foreign=owner != "ours") as (server, reader):
        fill(server)
        for _ in range(3):
            [worker] = eventually(server.workers, server.report)
            assert server.send(b"GET /kills-itself/ HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
            eventually(
                lambda worker=worker: len(server.workers()) == 1 and worker not in server.workers(),
                server.report,
            )
            ask(server, "after")
        os.kill(server.pid, signal.SIGTTIN)
        eventually(lambda: len(server.workers()) == 2, server.report)
        read_now(reader)
        os.set_blocking(reader, False)
        assert server.send(b"GET /kills-itself/ HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        received = b""

        def lost_line_has_come() -> bool:
            nonlocal received
            received += read_now(reader)
            return b"event_type=lost " in received

        eventually(lost_line_has_come, server.report)
        wait_until_all_serve(server)
        told = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - told < GRACEFUL_TIMEOUT_S
    assert "WORKER TIMEOUT" not in server.stderr.read_text()


@pytest.mark.soak
@pytest.mark.parametrize("worker_class", some_of(CLASSES, "gevent"))
def test_error_log_in_the_same_pipe_stops_nothing(worker_class: str, tmp_path: Path) -> None:
    """`2>&1`: neither our report of lost lines nor Gunicorn's own messages wait for the reader."""
    app, *arguments = CLASSES[worker_class]
    address = tmp_path / "socket"
    with connected("pipe", tmp_path) as (reader, writer):
        process = subprocess.Popen(
            [*INSTRUMENT, *GUNICORN, "--bind", f"unix:{address}", *arguments, *TIMES, app],
            stdout=writer,
            stderr=writer,
            cwd=PROGRAMS,
            env=clean_environment(tmp_path, {}),
            start_new_session=True,
        )
        server = Server(process, tmp_path / "none", tmp_path / "none", str(address))
        server.stdout.touch()
        said = b""

        def has_booted() -> bool:
            nonlocal said
            said += read_now(reader)
            return b"Booting worker with pid" in said and address.exists()

        try:
            eventually(has_booted, lambda: said.decode())
            for number in range(60):
                ask(server, f"fills-{number}")
            fill_to_the_brim(writer)
            assert_goes_on(server)
            [worker] = server.workers()
            assert server.send(b"GET /kills-itself/ HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
            eventually(
                lambda: len(server.workers()) == 1 and worker not in server.workers(),
                lambda: str(server.workers()),
            )
            ask(server, "after")  # answered by the new one: it has its handlers
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            stop(process)
        text = said + read_now(reader)
    ours = [line for line in text.decode().splitlines() if "event_type=" in line]
    assert ours
    for line in ours:
        assert re.match(r"(ts=\S+ )?event_type=(request|lost) ", line), line
        assert line.count("event_type=") == 1, line


def test_reporter_does_not_wait_for_the_reader_of_its_messages(tmp_path: Path) -> None:
    """What it says of a dead collector has no room on standard error; it ends with the arbiter."""
    with connected("pipe", tmp_path) as (_, writer):
        fill_to_the_brim(writer)
        log = tmp_path / "stderr.log"
        # Gunicorn's log is where the test reads; what Python says goes to the full pipe.
        hangs = ["sh", "-c", f'exec "$@" 2>/proc/{os.getpid()}/fd/{writer}', "sh"]
        with gunicorn(
            "stuck",
            tmp_path,
            *("--error-logfile", str(log)),
            command=[*hangs, *INSTRUMENT, *GUNICORN],
            expects_report=True,
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
            OTEL_METRIC_EXPORT_INTERVAL="100",
            OTEL_METRIC_EXPORT_TIMEOUT="100",
            OTEL_BSP_SCHEDULE_DELAY="100",
        ) as server:
            [reporter] = eventually(server.reporters, server.report)
            assert server.send(b"GET /kills-itself/ HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
            assert server.get("/ok/").status == 200  # the next worker has its handlers
            os.kill(server.pid, signal.SIGTERM)
            assert server.process.wait(PATIENCE_S) == 0
            eventually(lambda: not Path(f"/proc/{reporter}").exists(), server.report)
