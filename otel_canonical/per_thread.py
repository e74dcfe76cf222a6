"""What a thread is inside of, for the code that it calls there: a query, a look-up, a render.

That stands under the thread's ident, not in a ContextVar. Contexts are copied, in the middle of things
too: when a call in a thread is given up on, asgiref gives the thread's context, as it is then, to the
task that awaited it, and at last to the thread that serves the request, for good. What is true of a
thread alone, and only until it has left, must not travel with them.
"""

from __future__ import annotations

# Not `get_ident` by name: gevent replaces it in its module, by one that tells greenlets apart.
import _thread
import os
from typing import TypeVar

S = TypeVar("S")


class PerThread(dict[int, S]):
    """Stays of one kind, by the ident of the thread or greenlet: what each of them is inside of now.

    Nothing in there is awaited: a task that did would leave its stay to the others of its thread.
    """

    def __init__(self) -> None:
        super().__init__()
        # A child has none of the other threads, but gives their idents to its own.
        os.register_at_fork(after_in_child=self.clear)

    def now(self) -> S | None:
        """Return what the calling thread is inside of; None if it isn't."""
        return self.get(_thread.get_ident())

    def enter(self, stay: S) -> S | None:
        """Begin; what is returned, the stay around this one, is for `leave`, that must come by all means."""
        me = _thread.get_ident()
        outer = self.get(me)
        self[me] = stay
        return outer

    def leave(self, outer: S | None) -> None:
        """End, and be again where the thread was before."""
        me = _thread.get_ident()
        if outer is not None:
            self[me] = outer
        else:
            # In the child of a fork in between it has been forgotten.
            self.pop(me, None)
