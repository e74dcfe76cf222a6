"""What a thread is inside of, for the code that it calls there: a query, a look-up, a render.

That stands in a ContextVar, of which greenlets and tasks have their own. But contexts are copied, in the
middle of things too: when a call in a thread is given up on, asgiref gives the thread's context, as it is
then, to the task that awaited it, and at last to the thread that serves the request, for good. So what is
found there is believed only in the thread that put it there, and only until that has left.
"""

from __future__ import annotations

from _thread import get_ident
from contextvars import ContextVar, Token
from typing import Any, TypeVar


class Inside:
    """One stay of one thread. `thread_id` is where; None when it is over."""

    __slots__ = ("thread_id",)

    thread_id: int | None

    def enter(self, variable: ContextVar[Any]) -> Token[Any]:
        """Begin; what is returned is for `leave`."""
        self.thread_id = get_ident()
        return variable.set(self)

    def leave(self, token: Token[Any]) -> None:
        """End, for every context that this was copied to as well."""
        self.thread_id = None
        token.var.reset(token)


S = TypeVar("S", bound=Inside)


def now_inside(variable: ContextVar[S | None]) -> S | None:
    """Return what the calling thread is inside of; None if it isn't."""
    inside = variable.get()
    return inside if inside is not None and inside.thread_id == get_ident() else None
