"""How much time this process has spent in garbage collections, and in how many.

A collection stops every thread of the process, so what ran meanwhile is counted, whichever thread caused it.
"""

from __future__ import annotations

import gc
import time
from typing import Any


class Collections:
    """Times garbage collections once `watch` was called.

    Attributes:
        totals: nanoseconds and number of all so far; another object after each collection.
    """

    __slots__ = ("_started_ns", "totals")

    def __init__(self) -> None:
        self.totals = (0, 0)
        self._started_ns = 0

    def watch(self) -> None:
        """Time every collection from now on. Twice is once."""
        if self._note not in gc.callbacks:
            gc.callbacks.append(self._note)

    def _note(self, phase: str, _: Any) -> None:
        if phase == "start":
            self._started_ns = time.perf_counter_ns()
        elif self._started_ns:
            spent_ns, runs = self.totals
            self.totals = spent_ns + time.perf_counter_ns() - self._started_ns, runs + 1


#: The only one that is needed.
collections = Collections()
