"""A value per thread: what it is doing now (a query, a cache call, a render), for code that it calls.

Values are stored by thread ident, not in a ContextVar. Contexts are copied, even halfway: when a call in
a thread is cancelled, asgiref copies the thread's context to the task that awaited it, and from there to
the thread that serves the request. A value that holds for one thread, until it is reset, must not travel
like that. `threading.local` doesn't do either: under `--preload` this module is loaded before gevent
patches `threading`, and all greenlets of a thread would share one value.
"""

from __future__ import annotations

# The module, not `get_ident`: gevent replaces that in its module with one that tells greenlets apart.
import _thread
import os
from typing import TypeVar

S = TypeVar("S")


class PerThread(dict[int, S]):
    """A value for each thread or greenlet that has set one.

    Nothing may be awaited between `enter` and `leave`: other tasks of the thread would see the value.
    """

    def __init__(self) -> None:
        super().__init__()
        # A forked child has none of these threads, and new threads may get their idents.
        os.register_at_fork(after_in_child=self.clear)

    def now(self) -> S | None:
        """Return the calling thread's value, None if it has none."""
        return self.get(_thread.get_ident())

    def enter(self, value: S) -> S | None:
        """Set this thread's value and return the previous one. Always pass that to `leave`, in a `finally`."""
        me = _thread.get_ident()
        previous = self.get(me)
        self[me] = value
        return previous

    def leave(self, previous: S | None) -> None:
        """Restore the value that `enter` has returned."""
        me = _thread.get_ident()
        if previous is not None:
            self[me] = previous
        else:
            # Absent already in the child of a fork since `enter`.
            self.pop(me, None)
