"""`check` on what real servers wrote, also while their workers were killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path

from tests.support.reading import run
from tests.support.servers import PATIENCE_S, Server, eventually, gunicorn

KILLS = 8
MOST_KILLS = 100
CLIENTS = 4
POOL = {"OTEL_PYTHON_CANONICAL_POOL_INTERVAL_SECONDS": "1"}


def ask_until(is_over: threading.Event, site: Server, name: str) -> None:
    """Send requests of several kinds; a killed worker breaks some."""
    paths = ("/ok/", "/raises/", "/takes/?s=0.02")
    for number in range(1_000_000):
        if is_over.is_set():
            return
        path = paths[number % len(paths)]
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {name}-{number}\r\n\r\n"
        with contextlib.suppress(OSError):
            site.send(head.encode())


def wait_for_pool_lines(site: Server, more: int) -> None:
    """Wait until so many more `pool` lines are written."""

    def pool_lines() -> int:
        return site.stdout.read_text().count("event_type=pool")

    wanted = pool_lines() + more
    eventually(lambda: pool_lines() >= wanted, site.report)


def chaos(tmp_path: Path, **env: str) -> str:
    """Serve under load while workers are killed, stop, and return what was written."""
    is_over = threading.Event()
    with gunicorn("stuck", tmp_path, workers=3, **POOL, **env) as site:
        clients = [
            threading.Thread(target=ask_until, args=(is_over, site, f"c{number}"))
            for number in range(CLIENTS)
        ]
        # Counts are compared exactly between `pool` lines that no other line stands close to.
        wait_for_pool_lines(site, 2)
        for client in clients:
            client.start()
        try:
            # A worker may have no request at that moment, several times.
            for kills in range(MOST_KILLS):
                if kills >= KILLS and "event_type=lost" in site.stdout.read_text():
                    break
                workers = eventually(site.workers, site.report)
                before = site.stdout.stat().st_size
                with contextlib.suppress(ProcessLookupError):
                    os.kill(workers[0], signal.SIGKILL)
                eventually(lambda at=before: site.stdout.stat().st_size > at + 5000, site.report)
        finally:
            is_over.set()
            for client in clients:
                client.join()
        wait_for_pool_lines(site, 2)
        os.kill(site.pid, signal.SIGTERM)
        site.process.wait(PATIENCE_S)
        return site.stdout.read_text()


def test_a_chaos_run_keeps_the_promise(tmp_path: Path) -> None:
    """Workers killed under load: exit code 0. One line less, or one doubled, and it is 1."""
    path = tmp_path / "lines.log"
    text = chaos(tmp_path)
    path.write_text(text)
    done = run("check", path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ lost", done.stdout)
    lines = text.splitlines(keepends=True)
    middle = next(n for n in range(len(lines) // 2, len(lines)) if "event_type=request" in lines[n])
    path.write_text("".join([*lines[:middle], *lines[middle + 1 :]]))
    assert run("check", path).returncode == 1
    path.write_text("".join([*lines, lines[middle]]))
    assert run("check", path).returncode == 1
