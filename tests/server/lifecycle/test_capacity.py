"""Every worker and every concurrent request has its place on the scoreboard, whatever the worker class."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environments import INSTRUMENT
from tests.support.live import wait_for_pool
from tests.support.raw_requests import send
from tests.support.servers import GUNICORN, Server, eventually, gunicorn
from tests.support.soak import IS_SOAK

pytestmark = pytest.mark.soak

REFUSES_MEMFD = str(Path(__file__).parents[2] / "support" / "refuses_memfd.py")
#: (short, long). More than the 64 places of before; the long one is what an operator may do by TTIN.
WORKERS = (70, 200)[IS_SOAK]
REQUESTS = 1000


@contextlib.contextmanager
def held_open(site: Server, path: str, count: int) -> Iterator[None]:
    """Send requests that nobody answers yet, under the ids `held-0`, `held-1` and so on."""
    with contextlib.ExitStack() as connections:
        for number in range(count):
            connection = connections.enter_context(site.connect())
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: held-{number}\r\n\r\n"
            connection.sendall(head.encode())
        yield


def resident_kib(pid: int) -> int:
    """Return how much memory of its own a process has, with what is shared in parts."""
    found = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def endings(site: Server) -> Counter[tuple[str, str]]:
    """Return how many lines of held requests there are, by their type and cause."""
    return Counter(
        (line["event_type"], line.get("lost_cause", ""))
        for line in site.lines()
        if line["req_id"].startswith("held-")
    )


def test_a_thousand_greenlets_are_lost_with_a_line_each(tmp_path: Path) -> None:
    """As many as `worker_connections` allows by default; memory comes with use and stays small."""
    pytest.importorskip("gevent", reason="pip install gevent")
    with gunicorn("live", tmp_path, "-k", "gevent", SITE_DIRECTORY=str(tmp_path)) as site:
        [worker] = site.workers()
        before = resident_kib(site.pid)
        with held_open(site, f"/sleeps/one/?for={tmp_path}/never", REQUESTS):
            wait_for_pool(site, lambda pool: len(pool["requests"]) == REQUESTS)
            os.kill(worker, signal.SIGKILL)
            eventually(lambda: sum(endings(site).values()) >= REQUESTS, site.report)
        assert endings(site) == {("lost", "SIGKILL"): REQUESTS}
        eventually(lambda: len(site.workers()) == 1, site.report)
        _, line = site.ask("/ok/")
        assert (line["g_w_count"], line["g_t_active"]) == ("1", "1")
        assert "g_t_count" not in line
        grown = resident_kib(site.pid) - before
        print(f"\narbiter: {before} KiB before, {grown} KiB more after {REQUESTS} lost greenlets")
        # A slot has less than 3 KiB.
        assert grown < 16_000


def test_workers_added_by_signal_are_lost_with_a_line_each(tmp_path: Path) -> None:
    """Each TTIN adds one; then all are killed with a request in hand."""
    conf = tmp_path / "conf.py"
    # What every worker imports is there before the first fork: otherwise starting them takes minutes.
    conf.write_text("import otel_canonical.worker.runtime\n")
    arguments = ("-c", str(conf), "--preload", "-t", "600")
    with gunicorn("waits", tmp_path, *arguments) as site:
        before = resident_kib(site.pid)
        for number in range(2, WORKERS + 1):
            os.kill(site.pid, signal.SIGTTIN)
            eventually(lambda: len(site.workers()) == number, site.report)  # noqa: B023
        with held_open(site, f"/waits/?for={tmp_path}/never", WORKERS):
            asked_ns = time.monotonic_ns()
            # What a worker has accepted and not begun to read is none of its requests yet.
            wait_for_pool(site, lambda pool: len(pool["requests"]) == WORKERS)
            for pid in site.workers():
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: sum(endings(site).values()) >= WORKERS, site.report)
        print(f"\n{WORKERS} workers: lost within {(time.monotonic_ns() - asked_ns) / 1e9:.1f} s")
        lost = endings(site)
        assert lost[("lost", "SIGKILL")] == WORKERS, lost
        lines = [line for line in site.lines() if line["event_type"] == "lost"]
        assert max(int(line["g_w_count"]) for line in lines) == WORKERS
        grown = resident_kib(site.pid) - before
        print(f"arbiter: {before} KiB before, {grown} KiB more after {WORKERS} lost workers")
        assert grown < 16_000


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "EMFILE"] if IS_SOAK else ["EPERM"])
def test_all_but_crash_locations_is_there_when_memfd_is_refused(error: str, tmp_path: Path) -> None:
    """Lines, counts and lost requests as ever; what is missing is said once; no place leaks."""
    command = [sys.executable, REFUSES_MEMFD, error, *INSTRUMENT, *GUNICORN]
    with gunicorn("stuck", tmp_path, command=command, workers=2) as site:
        for number in range(12):
            assert send(site, "/kills-itself/") == b"", number
            eventually(
                lambda: len(endings_of(site, "lost")) == number + 1,  # noqa: B023
                site.report,
            )
        assert send(site, "/segfaults/") == b""
        eventually(lambda: len(endings_of(site, "lost")) == 13, site.report)
        assert all("lost_loc" not in line for line in endings_of(site, "lost"))
        eventually(lambda: len(site.workers()) == 2, site.report)
        send(site, "/ok/")
        line = site.line_of("ok")
        assert (line["g_w_count"], line["g_w_active"]) == ("2", "1")
        said = site.stderr.read_text()
        assert said.count("no memfd is to be had") == 1
        assert said.count("can't see this pool") == 1


def endings_of(site: Server, event_type: str) -> list[dict[str, str]]:
    """Return the lines of one type."""
    return [line for line in site.lines() if line["event_type"] == event_type]


@pytest.mark.parametrize(("name", "slots", "waits"), [("Ours", "3", True), ("Mine", "1", False)])
def test_class_of_the_site_is_known_by_its_ancestors(
    name: str, slots: str, waits: bool, tmp_path: Path
) -> None:
    """A class with another name counts its slots, its queue and its CPU time as Gunicorn's own does."""
    arguments = ("-k", f"own_workers.{name}", "--threads", "3", "--pythonpath", ".")
    with gunicorn("waits", tmp_path, *arguments) as site:
        _, line = site.ask("/ok/")
        assert (line["g_w_count"], line["g_t_active"]) == ("1", "1")
        assert line["g_t_count"] == slots
        assert ("g_t_waiting" in line) is waits
        assert "resp_cpu_time" in line
