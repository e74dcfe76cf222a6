"""PerThread: a value that one thread has entered, seen by that thread alone until it leaves."""

from __future__ import annotations

import contextvars
import threading

from otel_canonical.per_thread import PerThread
from tests.support.forks import exit_status, fork


def test_outer_value_is_there_again_when_inner_one_ends() -> None:
    """As for a query of the app's, during which Django makes one of its own."""
    entered: PerThread[str] = PerThread()
    assert entered.now() is None
    first = entered.enter("outer")
    second = entered.enter("inner")
    assert entered.now() == "inner"
    entered.leave(second)
    assert entered.now() == "outer"
    entered.leave(first)
    assert entered.now() is None
    assert not entered, "a value that was left takes no memory"


def test_value_is_not_of_thread_that_gets_the_context() -> None:
    """asgiref hands a thread's context to another thread in the middle of a call."""
    entered: PerThread[str] = PerThread()
    found: list[str | None] = []
    outer = entered.enter("value")
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(lambda: found.append(entered.now()),))
    thread.start()
    thread.join()
    entered.leave(outer)
    assert found == [None]


def test_forked_child_has_none_of_the_values() -> None:
    """The parent's threads are gone in the child, and a new one may get the ident of one of them."""
    entered: PerThread[str] = PerThread()
    outer = entered.enter("value")

    def leave_nothing() -> None:
        assert entered.now() is None
        entered.leave(outer)
        assert not entered

    pid = fork(leave_nothing)
    entered.leave(outer)
    assert exit_status(pid) == 0
