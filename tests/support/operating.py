"""What operators do to a running server: reload it, stop it."""

from __future__ import annotations

import os
import signal

from tests.support.servers import (
    Server,
    eventually,
)


def renew_workers(server: Server, signal_number: int = signal.SIGHUP) -> None:
    """Send a signal to the arbiter and wait until each worker has been replaced."""
    old = set(server.workers())
    os.kill(server.pid, signal_number)

    def are_renewed() -> bool:
        now = set(server.workers())
        return len(now) == len(old) and not now & old

    eventually(are_renewed, lambda: f"{old} were not all replaced\n{server.report()}")


def stop_politely(server: Server) -> None:
    """Send SIGTERM to the arbiter alone, as an operator does, and wait until it has left."""
    os.kill(server.pid, signal.SIGTERM)
    eventually(lambda: server.process.poll() is not None, server.report)


def wait_until_all_serve(server: Server) -> None:
    """Return once each worker of the site `stuck` has answered: one without handlers misses a signal."""
    served: set[int] = set()

    def do_all_serve() -> bool:
        served.add(int(server.get("/pid/").body))
        return served >= set(server.workers())

    eventually(do_all_serve, server.report)
