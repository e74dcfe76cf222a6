"""Running totals of the calls that one request made. Pure."""

from __future__ import annotations


class CallTally:
    """How often something was called, how long it took in sum, how often it failed.

    Calls that overlap (threads, async) are summed, so `elapsed_ns` may exceed the request's own time.
    """

    __slots__ = ("count", "elapsed_ns", "errors")

    def __init__(self) -> None:
        self.count = 0
        self.elapsed_ns = 0
        self.errors = 0

    def add(self, elapsed_ns: int, failed: bool = False) -> None:
        """Fold one call in."""
        self.count += 1
        self.elapsed_ns += elapsed_ns
        if failed:
            self.errors += 1
