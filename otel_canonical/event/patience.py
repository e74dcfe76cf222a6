"""How long a full output may hold a process up.

Lives in every process that writes lines. Only the first line waits: a reader that hangs must not hold up
every request after it. A reader that is slow all the time takes a small share of the process's time.
"""

from __future__ import annotations

import errno
import math
import time

from otel_canonical.process import descriptors

#: How long one line waits for room.
PATIENCE_MS = 200
#: The same where one thread serves all requests: it holds all of them up.
PATIENCE_OF_LOOP_MS = 10
#: All waits together take at most this share of a process's time, once the first wait is over.
PATIENCE_SHARE = 0.05


class Patience:
    """The time that a process may still wait for room in one output."""

    __slots__ = ("_left_s", "_waited_monotonic", "is_full", "limit_ms")

    def __init__(self) -> None:
        #: Of one line.
        self.limit_ms = PATIENCE_MS
        #: Whether the last wait was in vain. The output sets it to False after each line that it wrote.
        self.is_full = False
        self._left_s = math.inf
        self._waited_monotonic = time.monotonic()

    def wait_for_room(self, fd: int) -> None:
        """Wait until a descriptor takes bytes again, as long as there is patience left.

        Raises:
            BlockingIOError: it takes none.
        """
        now = time.monotonic()
        grown = self._left_s + (now - self._waited_monotonic) * PATIENCE_SHARE
        patience_s = min(grown, self.limit_ms / 1000)
        wait_ms = 0 if self.is_full else round(patience_s * 1000)
        self.is_full = not descriptors.has_room(fd, wait_ms)
        self._waited_monotonic = time.monotonic()
        self._left_s = max(patience_s - (self._waited_monotonic - now), 0)
        if self.is_full:
            raise BlockingIOError(errno.EAGAIN, "the output is full and its reader reads nothing")
