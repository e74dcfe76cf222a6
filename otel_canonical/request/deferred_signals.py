"""Signals that end a worker wait while a request is opened or its line is written.

Gunicorn's handlers of SIGQUIT, SIGINT and SIGABRT raise SystemExit wherever they find a worker. In a
worker whose main thread serves requests that may be in the midst of one's bookkeeping, even behind the
`write` and before anybody knows that it has written: no `except` could tell whether there is a line. So
the handlers are held back for these moments, which are short, and called right behind them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from otel_canonical.patching import patch

#: Gunicorn's handlers that raise SystemExit.
HANDLERS = ("handle_quit", "handle_abort")

#: The function that stands in front of them, as a stack names it.
IN_FRONT = "defer_or_handle"


class DeferredSignals:
    """Whether signals are held back just now, and the first that was.

    Who needs a moment without them sets `are_deferred` before it, and behind it clears it and, if there is
    `waiting`, calls `deliver`. Attributes, not methods: this is in the way of every request.
    """

    __slots__ = ("are_deferred", "waiting")

    def __init__(self) -> None:
        self.are_deferred = False
        self.waiting: Callable[[], None] | None = None

    def hold_back(self, worker: Any) -> None:
        """Put this in front of a worker's handlers, before its `init_signals` installs them.

        Args:
            worker: Gunicorn's. Only where its main thread serves requests: handlers run in that
                thread, and find nobody else's moments.
        """
        for name in HANDLERS:
            patch(worker, name, self._held)

    def deliver(self) -> None:
        """Call the handler that was held back.

        Raises:
            SystemExit: it is one of Gunicorn's, that ends the worker.
        """
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting()

    def _held(self, handle: Callable[[int, Any], None]) -> Callable[[int, Any], None]:
        def defer_or_handle(number: int, frame: Any) -> None:
            if not self.are_deferred:
                handle(number, frame)
            elif self.waiting is None:
                self.waiting = functools.partial(handle, number, frame)

        return defer_or_handle
