"""Takes samples of the stacks of running requests, for the watchdog."""

from __future__ import annotations

import time
from types import FrameType

from otel_canonical.internal_errors import guarded
from otel_canonical.request.deferred_signals import IN_FRONT
from otel_canonical.request.scope import RequestScope, StackSample
from otel_canonical.stacks.location import as_frames, locate_stack
from otel_canonical.stacks.running import frames_of
from otel_canonical.stacks.text import Describe

#: The functions that the interpreter calls on SIGABRT: ours, which defers it, or Gunicorn's.
ABORT_HANDLERS = (IN_FRONT, "handle_abort")


def sample_stack(scope: RequestScope, describe: Describe) -> StackSample | None:
    """Sample the stack that runs a request; None if it has none now, or has ended meanwhile.

    Frames are not kept: they would keep the app's objects alive.
    """
    frames = stack_of(scope)
    if not frames:
        return None
    location = locate_stack(as_frames(frames))
    stack = ""
    # The location is worth having without the text.
    with guarded("describing a stack"):
        stack = describe(frames)
    sample = StackSample(
        seen_ns=time.monotonic_ns(),
        loc=location.loc if location else None,
        cause_loc=location.cause_loc if location else None,
        stack=stack,
    )
    # A thread serves one request at a time: if it is still open, this was its stack.
    return None if scope.is_claimed else sample


def stack_of(scope: RequestScope) -> list[FrameType]:
    """Return the frames that run a request, outermost first; empty if that can't be told now."""
    return _uninterrupted(frames_of(scope.runner, scope.thread_id))


def _uninterrupted(frames: list[FrameType]) -> list[FrameType]:
    """Return the frames below the handler of SIGABRT, if one is on top (Gunicorn's, inside ours)."""
    for position in range(len(frames) - 1, 0, -1):
        if frames[position].f_code.co_name in ABORT_HANDLERS:
            return _uninterrupted(frames[:position])
    return frames
