"""What the watchdog's thread sleeps on: woken by this process, and by a command from outside.

A pipe, whose other end a command opens through `/proc/PID/fd`: no signal, no port. Where no pipe is to be
had, or the app has closed it, the thread sleeps on a bare lock and can't be woken from outside.
"""

from __future__ import annotations

import _thread
import contextlib
import math
import os
import select
import sys
from typing import Any, Protocol

#: What a command writes to ask for the stacks of all open requests.
ASK_STACKS = b"s"
_RING = b"r"
_MOST_READ = 4096


class _Lock(Protocol):
    def acquire(self, blocking: bool = True, timeout: float = -1, /) -> bool: ...

    def release(self) -> None: ...

    def locked(self) -> bool: ...


class Alarm:
    """Wakes one thread. `ring` is safe in a signal handler: it takes no lock and waits for nothing."""

    def __init__(self) -> None:
        # Releasing a bare lock is safe in a signal handler. The lock inside an Event could be held by
        # the code that the signal has interrupted.
        self._lock: _Lock = unpatched("_thread", "threading", "allocate_lock")()
        self._lock.acquire()
        self._pipe: tuple[int, int] | None = None
        with contextlib.suppress(OSError):
            self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._identity = _identity(self._pipe[0])
            self._poll = unpatched("select", "select", "poll")()
            self._poll.register(self._pipe[0], select.POLLIN)

    @property
    def outside_fd(self) -> int | None:
        """The descriptor that a command may open by `/proc/PID/fd` to wake the thread."""
        return self._pipe[1] if self._pipe is not None else None

    def ring(self) -> None:
        """Wake the thread."""
        if self._has_pipe():
            with contextlib.suppress(BlockingIOError):
                os.write(self._pipe[1], _RING)  # type: ignore[index]
        if self._lock.locked():
            self._lock.release()

    def wait(self, seconds: float) -> bytes:
        """Sleep until woken, `seconds` at most; return what was asked for from outside."""
        if not self._has_pipe():
            self._lock.acquire(True, seconds)
            return b""
        # Rounded up: a poll of 0 ms would not sleep at all.
        self._poll.poll(math.ceil(seconds * 1000))
        self._lock.acquire(False)
        if not self._has_pipe():
            return b""
        asked = b""
        with contextlib.suppress(BlockingIOError):
            asked = os.read(self._pipe[0], _MOST_READ)  # type: ignore[index]
        return asked.replace(_RING, b"")

    def _has_pipe(self) -> bool:
        """Return whether the pipe is still ours: an app may close all descriptors that it doesn't know."""
        if self._pipe is None:
            return False
        with contextlib.suppress(OSError):
            if _identity(self._pipe[0]) == _identity(self._pipe[1]) == self._identity:
                return True
        self._pipe = None
        return False


def unpatched(module: str, patched: str, name: str) -> Any:
    """Return a function as it was before gevent replaced it.

    Args:
        module: where the function is.
        patched: what gevent calls the module that it has patched with it.
        name: the function's.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched(patched):
        return monkey.get_original(module, name)
    return getattr({"_thread": _thread, "select": select}[module], name)


def _identity(fd: int) -> tuple[int, int]:
    # Both ends of a pipe are one inode.
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
