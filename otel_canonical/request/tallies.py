"""Running totals of one request: its calls, or its messages. Pure."""

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


class WebsocketTally:
    """How many messages a websocket has received and sent, and the code with which it was closed."""

    __slots__ = ("close_code", "received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.close_code: int | None = None
