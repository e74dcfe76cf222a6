"""Signals to arbiter and workers: log rotation, added and removed workers, stops at any moment."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path

import pytest

from otel_canonical.event import logfmt
from tests.support.processes import open_files
from tests.support.servers import (
    PROGRAMS,
    Line,
    eventually,
    gunicorn,
)
from tests.support.soak import some_of
from tests.support.stuck_requests import reads_a_head


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


@pytest.mark.soak
@pytest.mark.parametrize(
    ("moment", "told"),
    some_of(
        itertools.product(MOMENTS, ["SIGQUIT", "SIGABRT"]),
        *((moment, "SIGQUIT") for moment in MOMENTS),
        *(("while_opened", "SIGABRT"), ("while_encoded", "SIGABRT")),
    ),
)
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


def test_worker_that_quits_while_it_reads_a_head(tmp_path: Path) -> None:
    """The request has one line: what was read of it, and the 500 that Gunicorn answers."""
    with gunicorn("stuck", tmp_path) as server, server.connect() as connection:
        [worker] = server.workers()
        connection.sendall(b"GET /ok/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: unread\r\n")
        eventually(lambda: reads_a_head(worker), server.report)
        os.kill(worker, signal.SIGQUIT)
        assert connection.recv(65536).startswith(b"HTTP/1.1 500 ")
        [line] = server.wait_for_lines(1)
        assert (line["req_path"], line["resp_status"]) == ("/ok/", "500")
        assert line["exc_type"] == "SystemExit"
        assert line["req_id"] != "unread"
