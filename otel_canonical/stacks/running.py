"""Where a request is: the frames of the thread, greenlet or task that runs it, outermost first. Pure.

A thread shows its frames to anybody. A greenlet that waits shows its own. A task that waits is a chain
of coroutines, each awaiting the next; where that goes into a thread (`sync_to_async`) or comes back
out of one (`async_to_sync`), the chain is followed there. Nothing is imported for it: whoever runs
the request has left itself in the scope, and is recognised by what it can show.
"""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import Any

#: Coroutines of a chain, and changes between threads and tasks; the guard against a circle.
DEEPEST_CHAIN = 1000
MOST_CROSSINGS = 20

_ASGIREF = os.path.join("asgiref", "sync.py")


def frames_of(runner: Any, thread_id: int) -> list[FrameType]:
    """Return the frames of what runs a request; empty if that can't be told at this moment."""
    if runner is None:
        return _of_thread(sys._current_frames().get(thread_id), MOST_CROSSINGS)
    if hasattr(runner, "gr_frame"):
        return _of_greenlet(runner, thread_id)
    return _of_task(runner, MOST_CROSSINGS)


def _of_greenlet(greenlet: Any, thread_id: int) -> list[FrameType]:
    if greenlet.gr_frame is None:
        # It is the one that runs. Under gevent `get_ident` tells greenlets apart, the hub knows better.
        thread_id = getattr(greenlet.parent, "thread_ident", None) or thread_id
        frames = linked(sys._current_frames().get(thread_id))
        if greenlet.gr_frame is None:
            return frames
    return linked(greenlet.gr_frame)


def _of_task(task: Any, crossings: int) -> list[FrameType]:
    frames = _of_coroutine(task.get_coro(), crossings)
    awaited = getattr(task, "_fut_waiter", None)
    for child in getattr(awaited, "_children", None) or ():
        # What `gather` waits for: the first that is not done.
        if not child.done():
            awaited = child
            break
    if crossings and hasattr(awaited, "get_coro"):
        frames += _of_task(awaited, crossings - 1)
    return frames


def _of_coroutine(awaited: Any, crossings: int) -> list[FrameType]:
    frames: list[FrameType] = []
    while len(frames) < DEEPEST_CHAIN:
        kind = next((kind for kind in _KINDS if hasattr(awaited, kind[0])), None)
        frame = getattr(awaited, kind[0]) if kind is not None else None
        if kind is None or frame is None:
            break
        if getattr(awaited, kind[1]):
            return frames + _running(frame, crossings)
        frames.append(frame)
        awaited = getattr(awaited, kind[2])
    last = frames[-1] if frames else None
    if crossings and last is not None and _is(last.f_code, "__call__"):
        child = last.f_locals.get("child")
        if child is not None:
            frames += _in_executor(child, crossings - 1)
    return frames


#: What shows a coroutine's frame, whether it runs, and what it awaits.
_KINDS = (
    ("cr_frame", "cr_running", "cr_await"),
    ("gi_frame", "gi_running", "gi_yieldfrom"),
    ("ag_frame", "ag_running", "ag_await"),
)


def _running(frame: FrameType, crossings: int) -> list[FrameType]:
    """Return the part of some thread's stack that begins with a frame."""
    for innermost in sys._current_frames().values():
        stack = linked(innermost)
        if frame in stack:
            return _followed(stack[stack.index(frame) :], crossings)
    return []


def _in_executor(child: Any, crossings: int) -> list[FrameType]:
    """Return what the thread does that runs a call of asgiref's; empty while it waits for a thread."""
    for innermost in sys._current_frames().values():
        stack = linked(innermost)
        for position, frame in enumerate(stack):
            if _is(frame.f_code, "thread_handler") and any(
                argument is child for argument in frame.f_locals.get("args", ())
            ):
                return _followed(stack[position:], crossings)
    return []


def _of_thread(innermost: FrameType | None, crossings: int) -> list[FrameType]:
    return _followed(linked(innermost), crossings)


def _followed(stack: list[FrameType], crossings: int) -> list[FrameType]:
    """Return a thread's stack and, if it waits for a coroutine of asgiref's, that one's frames too."""
    for position in range(len(stack) - 1, -1, -1):
        code = stack[position].f_code
        if _is(code, "thread_handler"):
            # It does something for that coroutine meanwhile, and that is what can be seen.
            break
        if crossings and _is(code, "__call__"):
            awaitable = stack[position].f_locals.get("awaitable")
            if hasattr(awaitable, "cr_frame"):
                return stack[: position + 1] + _of_coroutine(awaitable, crossings - 1)
    return stack


def _is(code: CodeType, name: str) -> bool:
    return code.co_name == name and code.co_filename.endswith(_ASGIREF)


def linked(frame: FrameType | None) -> list[FrameType]:
    """Return the frames that a running one was called by, outermost first, itself the last."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]
