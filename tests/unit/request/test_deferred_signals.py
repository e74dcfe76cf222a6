"""Handlers that end a worker run at once, or behind the moment in which they are deferred; the first one counts."""

from __future__ import annotations

from types import FrameType

from otel_canonical.request.deferred_signals import DeferredSignals


class Worker:
    """A worker with Gunicorn's handlers."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def handle_quit(self, number: int, frame: FrameType | None) -> None:
        """Note it."""
        self.heard.append(("quit", number))

    def handle_abort(self, number: int, frame: FrameType | None) -> None:
        """Note it."""
        self.heard.append(("abort", number))


def test_handler_waits_while_it_is_deferred() -> None:
    """And is called once, by who ends the deferring; a second one is dropped: the worker ends anyway."""
    worker, signals = Worker(), DeferredSignals()
    signals.install(worker)
    worker.handle_quit(3, None)
    assert (worker.heard, signals.waiting) == ([("quit", 3)], None)
    signals.are_deferred = True
    worker.handle_abort(6, None)
    worker.handle_quit(3, None)
    assert worker.heard == [("quit", 3)]
    signals.are_deferred = False
    signals.deliver()
    signals.deliver()
    assert (worker.heard, signals.waiting) == ([("quit", 3), ("abort", 6)], None)
