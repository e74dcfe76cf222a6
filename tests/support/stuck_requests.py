"""Requests that are stuck in a view, and the worker that serves them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from tests.support.raw_requests import send
from tests.support.servers import (
    PATIENCE_S,
    Line,
    Server,
    eventually,
)

#: The system calls that `time.sleep` makes, on x86-64: clock_nanosleep; before Python 3.11 select.
SLEEPING = {"230", "23", "270"}


def busy_worker(site: Server) -> int | None:
    """Return the worker that sleeps inside a view: an idle one waits for connections in select."""
    for pid in site.workers():
        number, *arguments = Path(f"/proc/{pid}/syscall").read_text().split()
        # A select that waits for no descriptor is a sleep.
        if number in SLEEPING and (number == "230" or int(arguments[0], 16) == 0):
            return pid
    return None


def reads_a_head(worker: int) -> bool:
    """Return whether a sync worker waits for the rest of a request's head: on x86-64, in recvfrom."""
    return Path(f"/proc/{worker}/syscall").read_text().split()[0] == "45"


def line_after_shutdown(site: Server) -> Line:
    """Stop a server while it serves a request that outlasts the shutdown; return its one line."""
    client = threading.Thread(target=send, args=(site, "/sleeps/"))
    client.start()
    eventually(lambda: busy_worker(site), site.report)
    os.kill(site.pid, signal.SIGTERM)
    site.process.wait(PATIENCE_S)
    client.join()
    [line] = site.wait_for_lines(1)
    return line
