"""What a thread is inside of is true of it alone, until it has left."""

from __future__ import annotations

import contextvars
import os
import threading

from otel_canonical.per_thread import PerThread


def test_stay_around_is_there_again_when_inner_one_ends() -> None:
    """A query's, in what Django asks for itself, for example."""
    inside: PerThread[str] = PerThread()
    assert inside.now() is None
    first = inside.enter("outer")
    second = inside.enter("inner")
    assert inside.now() == "inner"
    inside.leave(second)
    assert inside.now() == "outer"
    inside.leave(first)
    assert inside.now() is None
    assert not inside, "what is over takes no memory"


def test_stay_is_not_of_thread_that_gets_the_context() -> None:
    """As asgiref hands it over, in the middle of a call."""
    inside: PerThread[str] = PerThread()
    found: list[str | None] = []
    outer = inside.enter("stay")
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(lambda: found.append(inside.now()),))
    thread.start()
    thread.join()
    inside.leave(outer)
    assert found == [None]


def test_forked_child_has_none_of_the_stays() -> None:
    """Their threads aren't there, and one that the child starts may get the ident of one of them."""
    inside: PerThread[str] = PerThread()
    outer = inside.enter("stay")
    pid = os.fork()
    if pid == 0:
        forgotten = inside.now() is None
        inside.leave(outer)
        os._exit(0 if forgotten and not inside else 1)
    inside.leave(outer)
    assert os.waitpid(pid, 0)[1] == 0
