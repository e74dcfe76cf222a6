"""Where a stack goes on in another thread or coroutine, and where it doesn't: exact, on stacks made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from otel_canonical.stacks import running
from otel_canonical.stacks.running import MOST_CROSSINGS, frames_of

ASGIREF = "/site-packages/asgiref/sync.py"


class Frame:
    """A frame of a thread or of a coroutine."""

    def __init__(self, name: str, file: str = "/srv/shop/views.py", **variables: object) -> None:
        self.f_code = SimpleNamespace(co_name=name, co_filename=file)
        self.f_locals = variables


def a_coroutine(*frames: Frame) -> Any:
    """Return a coroutine, given its frame and those of the coroutines that it awaits."""
    awaited = None
    for frame in reversed(frames):
        awaited = SimpleNamespace(cr_frame=frame, cr_running=False, cr_await=awaited)
    return awaited


def calls(**variables: object) -> Frame:
    """Return asgiref's frame of `sync_to_async(...)()` or `async_to_sync(...)()`."""
    return Frame("__call__", ASGIREF, **variables)


def handles(child: object) -> Frame:
    """Return asgiref's frame in a thread that runs a call for a coroutine."""
    return Frame("thread_handler", ASGIREF, args=(child,))


def looked_at(
    monkeypatch: pytest.MonkeyPatch, *threads: list[Frame], runner: object = None
) -> list[str]:
    """Return what is found of the first thread, or of a task, among stacks given outermost first."""
    monkeypatch.setattr(running, "stack_of_thread", lambda number: [*threads[number]])
    monkeypatch.setattr(running, "stacks_of_threads", lambda: [[*stack] for stack in threads])
    monkeypatch.setattr(running, "locals_of", lambda frame: frame.f_locals)
    found = frames_of(runner, 0)
    monkeypatch.undo()
    return [frame.f_code.co_name for frame in found]


def a_task(coroutine: object) -> Any:
    """Return the task of a coroutine."""
    return SimpleNamespace(get_coro=lambda: coroutine)


def test_task_goes_on_in_the_thread_that_works_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told from others by the call that it runs, and only from asgiref's own frame on."""
    child, other = object(), object()
    task = a_task(a_coroutine(Frame("view"), calls(child=child)))
    others = [Frame("run"), handles(other), Frame("others_work")]
    ours = [Frame("run", args=(child,)), handles(child), Frame("work")]
    found = looked_at(monkeypatch, others, ours, runner=task)
    assert found == ["view", "__call__", "thread_handler", "work"]
    assert looked_at(monkeypatch, others, runner=task) == ["view", "__call__"]


def test_variables_of_the_app_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they are called."""
    child = object()
    task = a_task(a_coroutine(Frame("view", child=child)))
    thread = [handles(child), Frame("work")]
    assert looked_at(monkeypatch, thread, runner=task) == ["view"]
    for name, file in (
        ("view", "/srv/shop/views.py"),
        ("__call__", "/srv/shop/a.py"),
        ("f", ASGIREF),
    ):
        view = [Frame(name, file, awaitable=a_coroutine(Frame("later")))]
        assert looked_at(monkeypatch, view) == [name]


def test_thread_that_works_for_another_coroutine_is_shown_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits in `async_to_sync`, and asgiref gives it work meanwhile."""
    child, other = object(), object()
    coroutine = a_coroutine(Frame("price"), calls(child=child))
    begin = [Frame("view"), calls(awaitable=coroutine)]
    assert looked_at(monkeypatch, begin) == ["view", "__call__", "price", "__call__"]
    for_other = [*begin, handles(other), Frame("others_work")]
    assert looked_at(monkeypatch, for_other) == [
        *("view", "__call__", "thread_handler", "others_work")
    ]
    for work in ([], [Frame("work")]):
        for_its_own = [*begin, handles(child), *work]
        assert looked_at(monkeypatch, for_its_own) == [
            *("view", "__call__", "price", "__call__", "thread_handler"),
            *("work" for _ in work),
        ]


def test_thread_and_coroutine_that_wait_for_each_other_are_followed_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A deadlock of the app's has an end for who looks at it: twenty changes between the two."""
    child = object()
    call = calls(child=child)
    coroutine = a_coroutine(call)
    thread = [handles(child), calls(awaitable=coroutine)]
    found = looked_at(monkeypatch, thread, runner=a_task(coroutine))
    once = ["__call__", "thread_handler", "__call__"]
    assert found == once * (cast("int", MOST_CROSSINGS) // 2) + ["__call__"]
