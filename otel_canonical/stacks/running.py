"""Finds the frames of the thread, greenlet or task that runs a request, outermost first. Pure.

A thread's frames are in `sys._current_frames`. A waiting greenlet has its own frame. A waiting task is a
chain of coroutines, each awaiting the next. Where the chain goes into a thread (asgiref's
`sync_to_async`) or from a thread into a task (`async_to_sync`), it is followed there. Neither gevent nor
asyncio is imported: greenlets and tasks are recognised by their attributes.
"""

from __future__ import annotations

import gc
import os
from types import AsyncGeneratorType, CodeType, FrameType
from typing import Protocol, runtime_checkable

from otel_canonical.stacks.frames import (
    frame_of,
    linked,
    locals_of,
    stack_of_thread,
    stacks_of_threads,
)

#: The most coroutines in a chain, and the most changes between threads and tasks; they end a cycle, too.
DEEPEST_CHAIN = 1000
MOST_CROSSINGS = 20

_ASGIREF = os.path.join("asgiref", "sync.py")


@runtime_checkable
class Greenlet(Protocol):
    """A greenlet: its frame while it waits, and the greenlet that it returns to."""

    gr_frame: FrameType | None
    parent: object


@runtime_checkable
class Task(Protocol):
    """An asyncio task."""

    def get_coro(self) -> object:
        """Return its coroutine."""


def frames_of(runner: object, thread_id: int) -> list[FrameType]:
    """Return the frames of what runs a request; empty if they can't be found at this moment.

    Args:
        runner: the greenlet or task that runs it, None if a thread runs it by itself.
        thread_id: the thread's ident.
    """
    if runner is None:
        return _followed(stack_of_thread(thread_id), MOST_CROSSINGS)
    if isinstance(runner, Greenlet):
        return _of_greenlet(runner, thread_id)
    return _of_task(runner, MOST_CROSSINGS) if isinstance(runner, Task) else []


def _of_greenlet(greenlet: Greenlet, thread_id: int) -> list[FrameType]:
    if greenlet.gr_frame is None:
        # It is running. Under gevent `get_ident` returns a greenlet's ident; the hub has the thread's.
        thread_id = getattr(greenlet.parent, "thread_ident", None) or thread_id
        frames = stack_of_thread(thread_id)
        if greenlet.gr_frame is None:
            return frames
    return linked(greenlet.gr_frame)


def _of_task(task: Task, crossings: int) -> list[FrameType]:
    frames = _of_coroutine(task.get_coro(), crossings)
    awaited = getattr(task, "_fut_waiter", None)
    for child in getattr(awaited, "_children", None) or ():
        # `gather` waits for several: follow the first that isn't done.
        if not child.done():
            awaited = child
            break
    if crossings and isinstance(awaited, Task):
        frames += _of_task(awaited, crossings - 1)
    return frames


def _of_coroutine(awaited: object, crossings: int) -> list[FrameType]:
    frames: list[FrameType] = []
    while len(frames) < DEEPEST_CHAIN:
        awaited = iterated(awaited)
        kind = next((kind for kind in _KINDS if hasattr(awaited, kind[2])), None)
        frame = frame_of(awaited, kind[0]) if kind is not None else None
        if kind is None or frame is None:
            break
        if getattr(awaited, kind[1]) and not _waits(awaited):
            return frames + _running(frame, crossings)
        frames.append(frame)
        awaited = getattr(awaited, kind[2])
    last = frames[-1] if frames else None
    if crossings and last is not None and _is(last.f_code, "__call__"):
        child = locals_of(last).get("child")
        if child is not None:
            frames += _in_executor(child, crossings - 1)
    return frames


def iterated(awaited: object) -> object:
    """Return the generator that an `async for` awaits, and anything else as it is."""
    if type(awaited).__name__.startswith("async_generator_"):
        # The object in between shows its generator in no other way.
        found = gc.get_referents(awaited)
        return next((one for one in found if type(one) is AsyncGeneratorType), None)
    return awaited


def _waits(running: object) -> bool:
    """Return whether it is an async generator that waits: it is said to run until its next item is there."""
    return getattr(running, "ag_await", None) is not None


#: Attributes of coroutines, generators and async generators: frame, whether it runs, what it awaits.
_KINDS = (
    ("cr_frame", "cr_running", "cr_await"),
    ("gi_frame", "gi_running", "gi_yieldfrom"),
    ("ag_frame", "ag_running", "ag_await"),
)


def _running(frame: FrameType, crossings: int) -> list[FrameType]:
    """Return the part of a thread's stack that begins with the given frame."""
    for stack in stacks_of_threads():
        if frame in stack:
            return _followed(stack[stack.index(frame) :], crossings)
    return []


def _in_executor(child: object, crossings: int) -> list[FrameType]:
    """Return the frames of the thread that runs a call of asgiref's; empty while no thread has taken it."""
    for stack in stacks_of_threads():
        for position, frame in enumerate(stack):
            if _is(frame.f_code, "thread_handler") and any(
                argument is child for argument in locals_of(frame).get("args", ())
            ):
                return _followed(stack[position:], crossings)
    return []


def _followed(stack: list[FrameType], crossings: int) -> list[FrameType]:
    """Return a thread's stack and, if it waits in `async_to_sync`, the frames of that coroutine.

    The thread may work for that coroutine meanwhile: then these frames come behind the coroutine's.
    """
    for position, frame in enumerate(stack):
        if crossings and _is(frame.f_code, "__call__"):
            awaitable = locals_of(frame).get("awaitable")
            if hasattr(awaitable, "cr_await"):
                followed = _of_coroutine(awaitable, crossings - 1)
                behind = stack[position + 1 :]
                if stack[-1] in followed or not any(
                    _is(later.f_code, "thread_handler") for later in behind
                ):
                    return stack[: position + 1] + followed
                break
    return stack


def _is(code: CodeType, name: str) -> bool:
    return code.co_name == name and code.co_filename.endswith(_ASGIREF)
