"""Defers the signals that end a worker while a request is opened or its line is written.

Gunicorn's handlers of SIGQUIT, SIGINT and SIGABRT raise SystemExit at any point of the main thread's
code. Where the main thread serves requests, that could be between the `write` of a line and the note
that it was written: no `except` could tell whether there is a line. So the handlers are deferred for
these short moments, and called right after them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FrameType

from otel_canonical.patching import patch

#: The handlers of Gunicorn's workers that raise SystemExit.
HANDLERS = ("handle_quit", "handle_abort")

#: The name, in a stack, of the function that runs before them.
IN_FRONT = "defer_or_handle"


class DeferredSignals:
    """Whether signals are deferred now, and the first that was.

    To defer signals, set `are_deferred`; afterwards clear it and, if there is `waiting`, call `deliver`.
    These are attributes, not methods, because every request uses them.
    """

    __slots__ = ("are_deferred", "waiting")

    def __init__(self) -> None:
        self.are_deferred = False
        self.waiting: Callable[[], None] | None = None

    def install(self, worker: object) -> None:
        """Patch a worker's handlers, before its `init_signals` installs them.

        Args:
            worker: Gunicorn's, of a class whose main thread serves requests: handlers run in that
                thread only.
        """
        for name in HANDLERS:
            patch(worker, name, self._deferred)

    def deliver(self) -> None:
        """Call the handler that was deferred.

        Raises:
            SystemExit: the handler ends the worker.
        """
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting()

    def _deferred(
        self, handle: Callable[[int, FrameType | None], None]
    ) -> Callable[[int, FrameType | None], None]:
        def defer_or_handle(number: int, frame: FrameType | None) -> None:
            if not self.are_deferred:
                handle(number, frame)
            elif self.waiting is None:
                self.waiting = functools.partial(handle, number, frame)

        return defer_or_handle
