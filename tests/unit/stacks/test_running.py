"""Frames of whatever runs a request: a thread, a greenlet, a task; across threads and loops, and bounded."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from otel_canonical.stacks import running
from otel_canonical.stacks.frames import linked
from otel_canonical.stacks.running import frames_of
from tests.support.servers import eventually

DEADLINE_S = 10.0


def names(frames: list[FrameType]) -> list[str]:
    """Return the functions of this module in a stack, the outermost first."""
    return [frame.f_code.co_name for frame in frames if frame.f_code.co_filename == __file__]


def look_at_thread(
    function: Callable[[Callable[[], None]], Any], is_whole: Callable[[list[str]], bool] = bool
) -> list[str]:
    """Run a function in a thread; return its stack while it waits, when all of it has come to a stop."""
    waits, go_on = threading.Event(), threading.Event()
    ident: list[int] = []

    def wait() -> None:
        waits.set()
        assert go_on.wait(DEADLINE_S)

    def run() -> None:
        ident.append(threading.get_ident())
        function(wait)

    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(run)
        try:
            assert waits.wait(DEADLINE_S)
            looks: list[list[str]] = []

            def stops() -> bool:
                looks.append(names(frames_of(None, ident[0])))
                return is_whole(looks[-1])

            eventually(stops, lambda: f"the last look: {looks[-1]}")
        finally:
            go_on.set()
        done.result(DEADLINE_S)
    return looks[-1]


def look_at_task(coroutine: Callable[[asyncio.Event], Awaitable[Any]]) -> list[str]:
    """Run a coroutine as a task; return its stack once everything waits."""

    async def look() -> list[str]:
        event = asyncio.Event()
        task = asyncio.ensure_future(coroutine(event))
        for _ in range(5):
            await asyncio.sleep(0)
        found = names(frames_of(task, threading.get_ident()))
        event.set()
        await task
        return found

    return asyncio.run(look())


def test_thread_has_its_own_stack() -> None:
    """The outermost frame first; a thread that has ended has none."""

    def outer(wait: Callable[[], None]) -> None:
        inner(wait)

    def inner(wait: Callable[[], None]) -> None:
        wait()

    assert look_at_thread(outer) == ["run", "outer", "inner", "wait"]
    assert frames_of(None, -1) == []
    assert linked(None) == []


async def waits_for(event: asyncio.Event) -> None:
    """Wait."""
    await event.wait()


async def in_between(event: asyncio.Event) -> None:
    """Await another coroutine."""
    await waits_for(event)


def test_task_is_a_chain_of_coroutines() -> None:
    """Each awaits the next."""
    assert look_at_task(in_between) == ["in_between", "waits_for"]


def test_task_that_gathers_is_followed_where_it_waits() -> None:
    """Into the first of several that has not ended."""

    async def is_done() -> None:
        pass

    async def gathers(event: asyncio.Event) -> None:
        await asyncio.gather(is_done(), waits_for(event), in_between(event))

    assert look_at_task(gathers) == ["gathers", "waits_for"]


def test_task_that_awaits_a_task_is_followed() -> None:
    """As `asyncio.wait_for` did, and an app may."""

    async def awaits_task(event: asyncio.Event) -> None:
        await asyncio.ensure_future(waits_for(event))

    assert look_at_task(awaits_task) == ["awaits_task", "waits_for"]


def test_generators_are_followed() -> None:
    """Async ones that are iterated, and ordinary ones that are awaited."""

    async def yields(event: asyncio.Event) -> AsyncIterator[int]:
        await waits_for(event)
        yield 1

    class Awaits:
        def __init__(self, event: asyncio.Event) -> None:
            self._event = event

        def __await__(self) -> Iterator[Any]:
            yield from waits_for(self._event).__await__()

    async def awaits_generator(event: asyncio.Event) -> None:
        await Awaits(event)

    async def iterates(event: asyncio.Event) -> None:
        async for _ in yields(event):
            pass

    assert look_at_task(iterates) == ["iterates", "yields", "waits_for"]
    assert look_at_task(awaits_generator)[:2] == ["awaits_generator", "__await__"]
    assert names(running._of_coroutine(yields(asyncio.Event()), 1)) == ["yields"]


def test_thread_that_a_coroutine_awaits_is_followed() -> None:
    """`sync_to_async`: the request's work is in that thread now."""
    waits, go_on = threading.Event(), threading.Event()

    def blocks() -> None:
        waits.set()
        assert go_on.wait(DEADLINE_S)

    async def view() -> None:
        await sync_to_async(blocks, thread_sensitive=False)()

    async def look() -> list[str]:
        task = asyncio.ensure_future(view())
        assert await asyncio.to_thread(waits.wait, DEADLINE_S)
        found = names(frames_of(task, threading.get_ident()))
        go_on.set()
        await task
        return found

    found = asyncio.run(look())
    assert (found[0], found[-1]) == ("view", "blocks")


def test_coroutine_that_a_thread_waits_for_is_followed() -> None:
    """`async_to_sync`: an async view of a sync server."""

    def view(wait: Callable[[], None]) -> None:
        async_to_sync(awaits)(wait)

    async def awaits(wait: Callable[[], None]) -> None:
        is_awaited = threading.Event()
        asyncio.get_running_loop().call_soon(is_awaited.set)

        def work() -> None:
            assert is_awaited.wait(DEADLINE_S)
            wait()

        await sync_to_async(work, thread_sensitive=False)()

    found = look_at_thread(view, lambda found: found[-1] == "wait")
    assert found[:3] == ["run", "view", "awaits"]


def test_running_task_is_seen_in_its_thread() -> None:
    """It computes, and awaits nothing."""
    seen: list[list[str]] = []

    async def computes() -> None:
        inner()

    def inner() -> None:
        task = asyncio.current_task()
        seen.append(names(frames_of(task, threading.get_ident())))

    asyncio.run(computes())
    assert seen[0][:2] == ["computes", "inner"]


def test_running_generator_is_seen_in_its_thread() -> None:
    """It computes its next item."""
    seen: list[list[str]] = []

    async def computes() -> AsyncIterator[int]:
        seen.append(names(frames_of(asyncio.current_task(), threading.get_ident())))
        yield 1

    async def iterates() -> None:
        async for _ in computes():
            pass

    asyncio.run(iterates())
    assert seen == [["iterates", "computes"]]


def test_waiting_greenlet_has_its_own_frame() -> None:
    """A running one is its thread's, by the hub's ident under gevent."""
    here = sys._getframe()
    waiting = SimpleNamespace(gr_frame=here, parent=None)
    assert frames_of(waiting, -1)[-1] is here
    ident = threading.get_ident()
    alone = SimpleNamespace(gr_frame=None, parent=None)
    hub = SimpleNamespace(gr_frame=None, parent=SimpleNamespace(thread_ident=ident))
    assert here in frames_of(alone, ident)
    assert here in frames_of(hub, -1)
    assert frames_of(alone, -1) == []


def test_what_is_neither_has_no_frames() -> None:
    """A runner of a kind that is not known."""
    assert frames_of(object(), threading.get_ident()) == []


def test_task_that_has_ended_has_no_frames() -> None:
    """It may end between the look at the request and this one."""

    async def ends() -> list[FrameType]:
        task = asyncio.ensure_future(asyncio.sleep(0))
        await task
        return frames_of(task, threading.get_ident())

    assert asyncio.run(ends()) == []


def test_endless_chain_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that awaits itself ends after as many frames as are looked at."""
    monkeypatch.setattr(running, "DEEPEST_CHAIN", 7)
    endless = SimpleNamespace(cr_frame=sys._getframe(), cr_running=False)
    endless.cr_await = endless
    assert len(running._of_coroutine(endless, 0)) == 7


def test_tasks_that_wait_for_each_other_are_followed_to_a_bound() -> None:
    """A deadlock of the app's: it has an end for who looks at it."""

    def a_task() -> SimpleNamespace:
        coroutine = SimpleNamespace(cr_frame=sys._getframe(), cr_running=False, cr_await=None)
        return SimpleNamespace(get_coro=lambda: coroutine)

    first, second = a_task(), a_task()
    first._fut_waiter, second._fut_waiter = second, first
    assert len(frames_of(first, -1)) == running.MOST_CROSSINGS + 1
