"""A server's life: reloads, recycled workers, rotated files; and an arbiter that stays as it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

import otel_canonical
from otel_canonical.event import logfmt
from otel_canonical.event.event import CanonicalEvent
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings
from tests.support.servers import (
    GUNICORN,
    INSTRUMENT,
    PROGRAMS,
    Line,
    Server,
    eventually,
    gunicorn,
)

PACKAGE = Path(otel_canonical.__file__).parent
INSTRUMENTED = [*INSTRUMENT, *GUNICORN]
HOOKS = "from otel_canonical.gunicorn_hooks import *\n"


def renew_workers(server: Server, signal_number: int = signal.SIGHUP) -> None:
    """Send a signal to the arbiter and wait until each worker has been replaced."""
    old = set(server.workers())
    os.kill(server.pid, signal_number)

    def are_renewed() -> bool:
        now = set(server.workers())
        return len(now) == len(old) and not now & old

    eventually(are_renewed, lambda: f"{old} were not all replaced\n{server.report()}")


@pytest.mark.parametrize("door", ["instrument", "hooks"])
def test_changed_settings_are_seen_after_hup(door: str, tmp_path: Path) -> None:
    """SIGHUP reloads Django's settings and ours: nothing of either was kept in the arbiter."""
    value, conf = tmp_path / "value", tmp_path / "conf.py"
    imports = HOOKS if door == "hooks" else ""
    value.write_text("before")
    conf.write_text(f"{imports}raw_env = ['OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS=req_client']\n")
    with gunicorn(
        "reloads",
        tmp_path,
        *("-c", str(conf)),
        command=GUNICORN if door == "hooks" else INSTRUMENTED,
        VALUE_FILE=str(value),
        IMPORTED_BY=str(tmp_path / "imported_by"),
    ) as server:
        first, before = server.ask("/value/")
        value.write_text("after")
        conf.write_text(f"{imports}raw_env = ['OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS=req_host']\n")
        renew_workers(server)
        second, after = server.ask("/value/")
        server.wait_for_lines(2)
    assert (first.body, second.body) == (b"before", b"after")
    assert ("req_client" in before, "req_host" in before) == (False, True)
    assert ("req_client" in after, "req_host" in after) == (True, False)
    assert before["g_pid"] != after["g_pid"]


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


@pytest.mark.parametrize("door", ["instrument", "hooks"])
@pytest.mark.parametrize("exports", [False, True], ids=["silent", "exporting"])
def test_arbiter_stays_as_it_was(door: str, exports: bool, tmp_path: Path) -> None:
    """No thread of ours, no Django, no settings, no SDK and no exporter in the arbiter."""
    (tmp_path / "value").write_text("x")
    conf = tmp_path / "conf.py"
    conf.write_text(
        (PROGRAMS / "tells_on_arbiter.py").read_text() + (HOOKS if door == "hooks" else "")
    )
    collector = f"http://127.0.0.1:{closed_port()}"
    exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    imported_by, told = tmp_path / "imported_by", tmp_path / "told"
    with gunicorn(
        "reloads",
        tmp_path,
        *("-c", str(conf)),
        command=GUNICORN if door == "hooks" else INSTRUMENTED,
        DJANGO_SETTINGS_MODULE="reloads",
        VALUE_FILE=str(tmp_path / "value"),
        IMPORTED_BY=str(imported_by),
        TOLD=str(told),
        **(exporting if exports else {}),
    ) as server:
        server.ask("/value/")
        renew_workers(server)
        server.ask("/value/")
        assert len(os.listdir(f"/proc/{server.pid}/task")) == 1
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: server.process.poll() is not None, server.report)
        importers = {int(pid) for pid in imported_by.read_text().split()}
        assert importers == {int(line["g_pid"]) for line in server.lines()}
        assert {line["sampled"] for line in server.lines()} == {"true" if exports else "false"}
    arbiter = json.loads(told.read_text())
    assert arbiter["pid"] == server.pid
    assert server.pid not in importers
    assert arbiter["threads"] == ["MainThread"]
    assert not arbiter["provider"]
    unwanted = (
        "django",
        "reloads",
        "opentelemetry.exporter",
        "opentelemetry.sdk",
        "opentelemetry.instrumentation.django",
    )
    assert not [
        module
        for module in arbiter["modules"]
        if module in unwanted or module.startswith(tuple(f"{name}." for name in unwanted))
    ]


def test_each_request_has_its_line_when_workers_are_recycled(tmp_path: Path) -> None:
    """`--max-requests`: a worker's last request has its line as any other."""
    limit, requests = 4, 30
    with gunicorn("plain_wsgi", tmp_path, "--max-requests", str(limit), workers=2) as server:
        for number in range(requests):
            assert server.get("/ok/", X_Request_ID=f"r{number}").status == 200
        lines = server.wait_for_lines(requests)
    assert {line["req_id"] for line in lines} == {f"r{number}" for number in range(requests)}
    assert max(int(line["g_w_requests"]) for line in lines) == limit
    assert len({line["g_pid"] for line in lines}) >= requests // limit


def open_files(pid: int) -> set[str]:
    """Return what the descriptors of a process stand for."""
    return {stands_for(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}


def stands_for(descriptor: Path) -> str:
    """Return the file of a descriptor, or nothing if it was closed in the meantime."""
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return ""


def lines_in(file: Path) -> list[Line]:
    """Return the lines of a file; all must be whole."""
    text = file.read_text()
    assert not text or text.endswith("\n")
    return [logfmt.parse(line) for line in text.splitlines()]


def test_no_line_is_lost_when_output_file_is_rotated(tmp_path: Path) -> None:
    """After a rename and SIGUSR1 all workers write to a new file, and the old one keeps its lines."""
    current, rotated = tmp_path / "canonical.log", tmp_path / "canonical.log.1"
    with gunicorn(
        "plain_wsgi", tmp_path, workers=3, OTEL_PYTHON_CANONICAL_OUTPUT=str(current)
    ) as server:
        for number in range(6):
            server.get("/ok/", X_Request_ID=f"before-{number}")
        eventually(lambda: len(lines_in(current)) == 6, server.report)
        current.rename(rotated)
        server.get("/ok/", X_Request_ID="between")  # as written as any: to the renamed file
        eventually(lambda: len(lines_in(rotated)) == 7, server.report)
        os.kill(server.pid, signal.SIGUSR1)
        eventually(
            lambda: all(
                str(current) in open_files(worker) and str(rotated) not in open_files(worker)
                for worker in server.workers()
            ),
            lambda: f"not reopened by all\n{server.report()}",
        )
        for number in range(6):
            server.get("/ok/", X_Request_ID=f"after-{number}")
        eventually(lambda: len(lines_in(current)) == 6, server.report)
    assert {line["req_id"] for line in lines_in(current)} == {f"after-{n}" for n in range(6)}
    assert len(lines_in(rotated)) == 7
    assert server.stdout.read_text() == ""


@pytest.mark.parametrize("stop_signal", ["SIGTERM", "SIGQUIT", "SIGINT"])
def test_worker_leaves_when_stopped_while_we_start(stop_signal: str, tmp_path: Path) -> None:
    """A worker that is told to leave in the middle of our start does so; the next one serves."""
    with gunicorn(
        "plain_wsgi",
        tmp_path,
        *("-c", str(PROGRAMS / "signalled_early.py")),
        ONLY_ONCE=str(tmp_path / "once"),
        EARLY_SIGNAL=stop_signal,
    ) as server:
        left = server.wait_for(r"Worker exiting \(pid: (\d+)\)")[1]
        eventually(lambda: server.workers() and server.workers() != [int(left)], server.report)
        assert server.get("/ok/").status == 200
        server.wait_for_lines(1)


def test_file_is_reopened_when_rotated_while_we_start(tmp_path: Path) -> None:
    """A worker that is told to reopen its files in the middle of our start doesn't miss it."""
    current = tmp_path / "canonical.log"
    with gunicorn(
        "plain_wsgi",
        tmp_path,
        *("-c", str(PROGRAMS / "signalled_early.py")),
        OTEL_PYTHON_CANONICAL_OUTPUT=str(current),
        ONLY_ONCE=str(tmp_path / "once"),
        ROTATE=str(current),
        EARLY_SIGNAL="SIGUSR1",
    ) as server:
        server.get("/ok/")
        eventually(lambda: current.exists() and len(lines_in(current)) == 1, server.report)


def test_one_line_each_when_number_of_workers_changes(tmp_path: Path) -> None:
    """SIGTTIN and SIGTTOU: workers that come later have their lines, too."""
    with gunicorn("plain_wsgi", tmp_path) as server:
        server.ask("/ok/")
        [first] = server.workers()
        os.kill(server.pid, signal.SIGTTIN)
        eventually(lambda: len(server.workers()) == 2, server.report)
        os.kill(server.pid, signal.SIGTTOU)  # the oldest leaves
        eventually(lambda: first not in server.workers(), server.report)
        _, line = server.ask("/ok/")
        assert [int(line["g_pid"])] == server.workers()
        server.wait_for_lines(2)


def test_one_line_each_when_arbiter_is_replaced(tmp_path: Path) -> None:
    """SIGUSR2 starts a new arbiter beside the old one; the new one's workers have lines, too."""
    with gunicorn("plain_wsgi", tmp_path) as server:
        server.ask("/ok/")
        [old_worker] = server.workers()
        os.kill(server.pid, signal.SIGUSR2)
        server.wait_for(r"(?s)Listening at.*Listening at.*Booting worker")
        [new_arbiter] = set(server.workers()) - {old_worker}
        try:
            os.kill(server.pid, signal.SIGTERM)
            eventually(lambda: server.process.poll() is not None, server.report)
            answer, line = server.ask("/ok/")
        finally:
            os.kill(new_arbiter, signal.SIGTERM)
        assert (answer.status, line["resp_status"]) == (200, "200")
        assert int(line["g_pid"]) != old_worker
        server.wait_for_lines(2)
        eventually(lambda: server.report().count("Shutting down: Master") == 2, server.report)


#: Moments of `quits_at`.
MOMENTS = (
    *("before_hook", "while_opened", "before_close", "while_read", "while_encoded", "behind_write"),
)


def _asking(request_id: str) -> bytes:
    return f"GET /ok/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n\r\n".encode()


@pytest.mark.parametrize("told", ["SIGQUIT", "SIGABRT"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_worker_that_quits_at_any_moment_of_a_request(
    moment: str, told: str, tmp_path: Path
) -> None:
    """Its request has one line, the answer that Gunicorn gave, and the worker is gone."""
    environment = {"QUIT_AT": moment, "QUIT_SIGNAL": told}
    with gunicorn("stuck", tmp_path, "-c", "python:quits_at", **environment) as server:
        [worker] = server.workers()
        answer = server.send(_asking("quit-1"))
        assert answer.startswith(b"HTTP/1.1 "), server.report()
        eventually(lambda: worker not in server.workers(), server.report)
        server.send(_asking("after"))
        server.wait_for_lines(2)
        [line, after] = server.lines()
        # Aborted while it was open: before it was answered, or while an enricher ran.
        is_timeout = told == "SIGABRT" and moment in ("while_opened", "while_read")
        assert line["req_id"] == "quit-1"
        assert line["event_type"] == ("timeout" if is_timeout else "request")
        assert line["resp_status"] == answer.split()[1].decode()
        assert (after["req_id"], after["resp_status"]) == ("after", "200")
        assert after["g_t_active"] == "1"


def test_line_is_written_when_app_ends_itself_while_its_request_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SystemExit out of a signal handler that the app has, in our own code: a poor line, and on."""
    events: list[CanonicalEvent] = []

    def quit_here(scope: RequestScope) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("otel_canonical.request.canonical_log.readers", [quit_here])
    log = CanonicalLog(
        Settings(), RootFactory(None, str), lambda event, scope: events.append(event)
    )
    scope = log.open("GET", "/ok/", {"X-REQUEST-ID": "the-last"})
    assert scope is not None
    scope.status = 200
    with pytest.raises(SystemExit):
        log.close(scope)
    [event] = events
    pairs = dict(event.pairs)
    assert (pairs["event_type"], pairs["req_id"], pairs["resp_status"]) == (
        *("request", "the-last"),
        200,
    )
    assert not log.in_flight


#: What the garbage collector would look at, by their modules' own dictionaries.
WHAT_IS_WALKED = """
import gc, json, os, sys
from pathlib import Path

def post_worker_init(worker):
    walked = {id(found) for found in gc.get_objects()}
    names = ("every_kind", "django.http.response", "otel_canonical.worker.watchdog", "gunicorn.config")
    found = {name: id(vars(sys.modules[name])) in walked for name in names}
    Path(os.environ["FOUND"]).write_text(json.dumps(found))
"""


def test_collector_walks_the_app_and_not_us(tmp_path: Path) -> None:
    """A full collection looks at no more with us than without: its pause is the app's own."""
    (tmp_path / "conf.py").write_text(WHAT_IS_WALKED)
    found = tmp_path / "found.json"
    with gunicorn(
        "every_kind",
        tmp_path,
        *("-c", str(tmp_path / "conf.py")),
        FOUND=str(found),
        SITE_DIRECTORY=str(tmp_path),
    ) as server:
        server.get("/ok/")
    walked = json.loads(found.read_text())
    assert (walked["every_kind"], walked["django.http.response"]) == (True, True)
    assert (walked["otel_canonical.worker.watchdog"], walked["gunicorn.config"]) == (False, False)


def test_workers_are_of_the_version_that_was_started(tmp_path: Path) -> None:
    """An upgrade of the package on disk and SIGHUP: nothing of the new version gets into a worker."""
    package = tmp_path / "otel_canonical"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    with gunicorn("plain_wsgi", tmp_path, PYTHONPATH=str(tmp_path)) as server:
        server.ask("/ok/")
        for module in package.glob("*.py"):
            module.write_text("raise ImportError('this is of another version')\n")
        renew_workers(server)
        server.ask("/ok/")
        server.wait_for_lines(2)
        assert "otel-canonical failed" not in server.stderr.read_text()
