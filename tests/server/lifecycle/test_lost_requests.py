"""A request whose worker dies has one `lost` line, with the cause and, after a crash, the location."""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.environments import INSTRUMENT
from tests.support.raw_requests import request_id, send
from tests.support.servers import GUNICORN, eventually, gunicorn
from tests.support.stuck_requests import busy_worker, line_after_shutdown

DEATHS = {
    "/kills-itself/": ("SIGKILL", None),
    "/segfaults/": ("SIGSEGV", "crash"),
    "/bus-error/": ("SIGBUS", None),
    "/aborts/": ("SIGABRT", "aborts"),
    "/exits-hard/": ("exit:7", None),
}


@pytest.mark.parametrize("path", DEATHS)
def test_one_lost_line_when_worker_dies(path: str, tmp_path: Path) -> None:
    """The worker's death, the request that was open, and no second line."""
    cause, function = DEATHS[path]
    with gunicorn("stuck", tmp_path) as site:
        assert send(site, path) == b""
        line = site.line_of(request_id(path))
        assert (line["event_type"], line["lost_cause"]) == ("lost", cause)
        assert (line["req_path"], line["req_method"]) == (path, "GET")
        assert line["req_route"] == path[1:]
        assert float(line["resp_time"]) >= 0
        if function is not None:
            view = path.strip("/").replace("-", "_")
            assert re.fullmatch(rf"stuck\.py:\d+:{view}", line["lost_loc"])
            assert (
                re.fullmatch(rf"\S+:\d+:{function}", line["lost_cause_loc"]) or function == "crash"
            )
        send(site, "/ok/")
        site.wait_for_lines(2)


def test_lost_line_when_killed_from_outside(tmp_path: Path) -> None:
    """kill -9 on a busy worker; idle ones leave no line."""
    with gunicorn("stuck", tmp_path, workers=2) as site, ThreadPoolExecutor(1) as client:
        answer = client.submit(send, site, "/queries-then-sleeps/")
        worker = eventually(lambda: busy_worker(site), site.report)
        for pid in site.workers():
            if pid != worker:
                os.kill(pid, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        assert answer.result() == b""
        [line] = site.wait_for_lines(1)
        assert (line["event_type"], line["lost_cause"]) == ("lost", "SIGKILL")
        assert (line["g_pid"], line["db_queries"]) == (str(worker), "3")
        assert list(line)[:4] == ["ts", "event_type", "req_method", "req_path"]
        assert list(line)[-1] == "req_id"


def test_lost_line_when_shutdown_runs_out(tmp_path: Path) -> None:
    """SIGTERM to the server while a request outlasts `--graceful-timeout`."""
    with gunicorn("stuck", tmp_path, "--graceful-timeout", "2", "-t", "60") as site:
        line = line_after_shutdown(site)
        assert (line["event_type"], line["lost_cause"]) == ("lost", "shutdown")
        assert line["req_path"] == "/sleeps/"


def test_timeout_line_when_request_outlasts_a_reload(tmp_path: Path) -> None:
    """SIGHUP while a request is stuck: its old worker is left to finish it, until the timeout."""
    with gunicorn("stuck", tmp_path, "--graceful-timeout", "1", "-t", "4") as site:
        client = threading.Thread(target=send, args=(site, "/sleeps/"))
        client.start()
        eventually(lambda: busy_worker(site), site.report)
        os.kill(site.pid, signal.SIGHUP)
        eventually(lambda: len(site.workers()) == 2, site.report)
        client.join()
        line = site.line_of("sleeps")
        assert line["event_type"] == "timeout"
        assert b" 200 " in send(site, "/ok/")
        site.wait_for_lines(2)


def test_error_line_when_view_calls_sys_exit(tmp_path: Path) -> None:
    """Gunicorn answers SystemExit with a 500 and the worker goes on: a request like any other."""
    with gunicorn("stuck", tmp_path) as site:
        assert b" 500 " in send(site, "/sys-exits/")
        [line] = site.wait_for_lines(1)
        assert (line["event_type"], line["resp_status"]) == ("request", "500")
        assert line["exc_type"] == "SystemExit"


def test_one_line_when_memory_runs_out(tmp_path: Path) -> None:
    """Under `ulimit -v` the allocation fails: the app gets MemoryError, and the line says so."""
    with gunicorn("stuck", tmp_path) as site:
        [worker] = site.workers()
        resource.prlimit(worker, resource.RLIMIT_AS, (1 << 30, 1 << 30))
        assert b" 500 " in send(site, "/eats-memory/")
        [line] = site.wait_for_lines(1)
        assert (line["event_type"], line["exc_type"]) == ("request", "MemoryError")


def own_memory_cgroup() -> Path | None:
    """Return the directory of this process's memory cgroup, if a group can be made below it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            directory = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
            return directory if os.access(directory, os.W_OK) else None
    return None


def test_cause_is_oom_when_kernel_kills_for_memory(tmp_path: Path) -> None:
    """Told apart from other SIGKILLs by the cgroup's own counter."""
    parent = own_memory_cgroup()
    if parent is None:
        pytest.skip("needs a writable memory cgroup (version 1), as root has outside containers")
    group = parent / f"otel-canonical-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(300 << 20))
        enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        command = ["/bin/sh", "-c", enter, "sh", *INSTRUMENT, *GUNICORN]
        with gunicorn("stuck", tmp_path, command=command) as site:
            assert send(site, "/eats-memory/") == b""
            line = site.line_of("eats-memory")
            assert (line["event_type"], line["lost_cause"]) == ("lost", "oom")
    finally:
        eventually(
            lambda: not (group / "cgroup.procs").read_text(), lambda: "the group is not empty"
        )
        group.rmdir()


def test_worker_that_somebody_else_reaped_is_counted_out(tmp_path: Path) -> None:
    """A hook takes the deaths from Gunicorn: it notices late, its `child_exit` never comes; we do."""
    conf = tmp_path / "conf.py"
    conf.write_text(
        "import signal\n"
        "def when_ready(server):\n"
        "    signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    )
    with gunicorn("stuck", tmp_path, "-c", str(conf), "-t", "2") as site:
        send(site, "/kills-itself/")
        line = site.line_of("kills-itself")
        # Gunicorn aborted a worker that it thought alive, so this looks like a timeout.
        assert line["event_type"] == "timeout"
        send(site, "/ok/")
        assert (site.line_of("ok")["g_w_count"], site.line_of("ok")["g_w_active"]) == ("1", "1")
