"""How a worker class runs its requests, told by the class's ancestors, not by its name. Pure.

A site may write `-k my.Worker` with `class Worker(ThreadWorker)`: that serves requests as `gthread` does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

SYNC = "gunicorn.workers.sync"
THREADS = "gunicorn.workers.gthread"
GUNICORN_ASGI = "gunicorn.workers.gasgi"

#: Gunicorn's default for `worker_connections`, for a configuration that lacks it.
CONNECTIONS = 1000


class WorkerClass(NamedTuple):
    """What an ancestor of a worker class says of it."""

    #: Whether a worker never serves more requests at once than it has slots.
    is_bounded: bool
    #: Whether a thread serves one request at a time.
    has_thread_per_request: bool
    #: Whether the worker's main thread serves requests: signal handlers run there.
    serves_in_main_thread: bool
    #: Whether a worker accepts requests before it has a thread for them.
    has_queue: bool
    #: Whether a request that outlasts Gunicorn's `timeout` stops the worker's heartbeat.
    times_out: bool

    def slots(self, cfg: Any) -> int:
        """Return how many requests one worker serves at once, at most, by Gunicorn's configuration."""
        if not self.has_thread_per_request:
            return max(int(getattr(cfg, "worker_connections", CONNECTIONS)), 1)
        return max(int(cfg.threads), 1) if self.has_queue else 1


_ONE_AT_A_TIME = WorkerClass(True, True, True, False, True)
_IN_THREADS = WorkerClass(True, True, False, True, False)
#: Greenlets and tasks, and classes that are not known: their threads may serve many requests at once.
_MANY_AT_ONCE = WorkerClass(False, False, True, False, False)

_BY_MODULE = {SYNC: _ONE_AT_A_TIME, THREADS: _IN_THREADS}


def worker_class_of(cls: type) -> WorkerClass:
    """Return how a worker class runs its requests."""
    for base in cls.__mro__:
        if (found := _BY_MODULE.get(base.__module__)) is not None:
            return found
    return _MANY_AT_ONCE


def is_gunicorn_asgi(cls: type) -> bool:
    """Return whether a worker class is, or extends, Gunicorn's own for ASGI."""
    return any(base.__module__ == GUNICORN_ASGI for base in cls.__mro__)
