"""The pool's state on each request's line: busy workers, busy slots, backlog."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.addresses import unused_address
from tests.support.environments import INSTRUMENT
from tests.support.raw_requests import send
from tests.support.servers import GUNICORN, PATIENCE_S, PROGRAMS, Line, Server, eventually, gunicorn

#: A slow line every now and then shows the pool while nothing is answered.
OFTEN_SLOW = {
    "OTEL_PYTHON_CANONICAL_SLOW_SECONDS": "0.1",
    "OTEL_PYTHON_CANONICAL_SLOW_INTERVAL_SECONDS": "0.2",
}


class Busy:
    """Requests that run until they are let go: each waits for a file to appear."""

    def __init__(self, site: Server, gate: Path) -> None:
        self._site = site
        self._gate = gate
        self._threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        """Send `count` requests that stay."""
        for _ in range(count):
            # Its request's id is made of the path.
            path = f"/waits/?for={self._gate}&n={len(self._threads)}"
            thread = threading.Thread(target=send, args=(self._site, path))
            thread.start()
            self._threads.append(thread)

    def let_go(self) -> None:
        """Let them answer, and wait for it."""
        self._gate.touch()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Callable[[Server], Busy]]:
    """Makes requests that stay, and lets them go at the end."""
    made: list[Busy] = []

    def make(site: Server) -> Busy:
        made.append(Busy(site, tmp_path / f"gate-{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        one.let_go()


def pool_when(site: Server, **expected: str) -> Line:
    """Send requests until a line's pool is as expected; fail with the last one."""
    last: list[Line] = []

    def probe() -> Line | None:
        send(site, "/ok/")
        last[:] = [line for line in site.lines() if line["req_path"] == "/ok/"][-1:]
        return last[0] if last and expected.items() <= last[0].items() else None

    return eventually(probe, lambda: f"expected {expected}, the last line was {last}")


def test_line_counts_busy_workers_and_itself(
    busy: Callable[[Server], Busy], tmp_path: Path
) -> None:
    """With 2 of 3 workers busy, the third's line says 3 and 3."""
    with gunicorn("waits", tmp_path, workers=3) as site:
        waiting = busy(site)
        pool_when(site, g_w_count="3", g_w_active="1", g_t_count="3", g_t_active="1")
        waiting.start(2)
        pool_when(site, g_w_count="3", g_w_active="3", g_t_count="3", g_t_active="3")
        waiting.let_go()
        pool_when(site, g_w_active="1")


@pytest.mark.parametrize("binds", [["tcp"], ["unix"], ["tcp", "unix"], ["tcp6"]])
def test_line_has_backlog_when_clients_wait(
    binds: list[str], busy: Callable[[Server], Busy], tmp_path: Path
) -> None:
    """All workers busy and five clients waiting: the next line's `g_backlog` shows them."""
    addresses = {
        "tcp": "127.0.0.1:0",
        "tcp6": "[::1]:0",
        "unix": f"unix:{tmp_path}/gunicorn.sock",
    }
    first, *more = [addresses[bind] for bind in binds]
    arguments = [argument for bind in more for argument in ("--bind", bind)]
    with gunicorn("waits", tmp_path, *arguments, bind=first, **OFTEN_SLOW) as site:
        see_five_waiting(site, busy(site), binds, tmp_path)


@pytest.mark.parametrize("binds", [["tcp"], ["unix"], ["tcp", "tcp6", "unix"]])
def test_line_has_backlog_of_sockets_that_systemd_made(
    binds: list[str], busy: Callable[[Server], Busy], tmp_path: Path
) -> None:
    """Sockets that Gunicorn was started with are as good as those it has made itself."""
    addresses = {"tcp": "tcp", "tcp6": "tcp6", "unix": f"unix:{tmp_path}/gunicorn.sock"}
    launcher = [sys.executable, str(PROGRAMS / "socket_activated.py")]
    sockets = ",".join(addresses[bind] for bind in binds)
    command = [*launcher, sockets, *INSTRUMENT, *GUNICORN]
    with gunicorn("waits", tmp_path, command=command, **OFTEN_SLOW) as site:
        see_five_waiting(site, busy(site), binds, tmp_path)


def see_five_waiting(site: Server, waiting: Busy, binds: list[str], directory: Path) -> None:
    """Make its one worker busy and connect five more clients: the next lines tell of them."""
    pool_when(site, g_backlog="0")
    waiting.start(1)
    eventually(lambda: [e for e in site.lines() if e["event_type"] == "slow"], site.report)
    listening = site.wait_for(r"Listening at: (\S+)")[1]
    ports = {
        "tcp6" if host.startswith("[") else "tcp": (host.strip("[]"), int(port))
        for host, port in re.findall(r"http://([^,]+):(\d+)", listening)
    }
    paths = {"unix": f"{directory}/gunicorn.sock"}
    queued = [queue_up({**ports, **paths}[bind]) for bind in (binds * 5)[:5]]
    eventually(lambda: site.lines()[-1].get("g_backlog") == "5", site.report)
    waiting.let_go()
    eventually(
        lambda: [e for e in site.lines() if e.get("g_backlog") == "5" and "resp_status" in e],
        site.report,
    )
    for connection in queued:
        connection.close()


def queue_up(address: tuple[str, int] | str) -> socket.socket:
    """Connect and send a request that no worker accepts yet."""
    if isinstance(address, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
    else:
        connection = socket.create_connection(address, timeout=PATIENCE_S)
    connection.sendall(b"GET /ok/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def test_line_has_backlog_when_each_worker_listens_for_itself(
    busy: Callable[[Server], Busy], tmp_path: Path
) -> None:
    """`--reuse-port`: of two workers with a socket each, what waits at both."""
    bind = unused_address()
    with gunicorn("waits", tmp_path, "--reuse-port", bind=bind, workers=2, **OFTEN_SLOW) as site:
        pool_when(site, g_backlog="0")
        waiting = busy(site)
        # The kernel deals connections out, also to a worker that is busy: nine keep both so.
        waiting.start(9)
        wait_until_in_hand(site, 9, queue="g_backlog")
        os.kill(site.workers()[0], signal.SIGKILL)
        # What waited there is gone, and the successor's socket is known.
        waiting.let_go()
        pool_when(site, g_backlog="0", g_w_count="2")


def test_busy_slots_are_right_when_threads_share_a_worker(
    busy: Callable[[Server], Busy], tmp_path: Path
) -> None:
    """2 workers of 4 threads under 1 to 12 requests: 8 slots, busy those whose request runs.

    Those that don't wait for a thread, and are counted as waiting.
    """
    with gunicorn("waits", tmp_path, "--threads", "4", workers=2, **OFTEN_SLOW) as site:
        pool_when(site, g_t_count="8", g_t_active="1", g_w_count="2")
        waiting = busy(site)
        for count in range(1, 13):
            waiting.start(1)
            active_when_told(site, at_least=min(count, 4), at_most=min(count, 8))
            wait_until_in_hand(site, count)
        waiting.let_go()
        pool_when(site, g_t_active="1", g_w_active="1", g_t_waiting="0")


def wait_until_in_hand(site: Server, count: int, queue: str = "g_t_waiting") -> None:
    """Wait until the last slow line says that so many requests run or wait in `queue`."""

    def in_hand() -> int:
        lines = [line for line in site.lines() if line["event_type"] == "slow"]
        return int(lines[-1]["g_t_active"]) + int(lines[-1].get(queue, 0)) if lines else 0

    eventually(lambda: in_hand() == count, lambda: f"{in_hand()}, not {count}: {site.report()}")


def active_when_told(site: Server, *, at_least: int, at_most: int) -> None:
    """Wait until as many slots are busy as requests have said that they run.

    How many run is up to the kernel, which deals connections out to the two workers: of more than
    four at one of them some wait for a thread. Those that run say so by a slow line.
    """

    def seen() -> tuple[int, int]:
        slow_lines = [line for line in site.lines() if line["event_type"] == "slow"]
        running = {line["req_id"] for line in slow_lines}
        return len(running), int(slow_lines[-1]["g_t_active"]) if slow_lines else 0

    eventually(
        lambda: seen()[0] == seen()[1] and seen()[0] >= at_least,
        lambda: f"(running, g_t_active) is {seen()}\n{site.report()}",
    )
    assert seen()[1] <= at_most


def test_no_slot_count_when_worker_class_has_no_bound(tmp_path: Path) -> None:
    """A gevent worker takes what comes: how many it could take is left out."""
    pytest.importorskip("gevent", reason="pip install gevent")
    with gunicorn("waits", tmp_path, "-k", "gevent") as site:
        line = pool_when(site, g_w_count="1", g_t_active="1")
        assert "g_t_count" not in line


def test_counts_are_right_when_workers_are_added_and_removed(tmp_path: Path) -> None:
    """TTIN, TTOU and killed workers: right again within a second or so."""
    with gunicorn("waits", tmp_path, workers=2) as site:
        for number, count in ((signal.SIGTTIN, 3), (signal.SIGTTIN, 4), (signal.SIGTTOU, 3)):
            os.kill(site.pid, number)
            pool_when(site, g_w_count=str(count))
        os.kill(site.workers()[0], signal.SIGKILL)
        pool_when(site, g_w_count="3", g_w_active="1")
