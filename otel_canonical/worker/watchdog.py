"""The one thread of a worker that watches its requests and says where a stuck one is.

Lives in the worker, a real thread also where gevent has patched the standard library. It sleeps until
the next moment at which any request could be due; a request that begins or ends doesn't wake it, so
watching costs a request nothing. It only looks: what it finds is written when the outcome is known,
by whoever knows it.
"""

from __future__ import annotations

import _thread
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from otel_canonical.internal_errors import guarded
from otel_canonical.request.deferred_signals import IN_FRONT
from otel_canonical.request.scope import RequestScope, StackSample
from otel_canonical.stacks.location import as_frames, locate_stack
from otel_canonical.stacks.running import frames_of
from otel_canonical.stacks.text import Describe

#: The longest sleep; also bounds how long `stop` may wait.
LONGEST_SLEEP_S = 60.0
#: How soon to look again at a request that could not be seen: a greenlet or task on its way.
LOOK_AGAIN_S = 0.05
#: How soon to look again at a request that could not be looked at, or told of, because that failed.
TRY_AGAIN_S = 1.0
#: The thread has this long to come back when it is stopped.
STOP_S = 1.0

_NS = 1_000_000_000


class Watchdog:
    """Looks at requests that near their end or are slow.

    Args:
        in_flight: the open requests, by anything; read, never changed.
        heartbeat: returns when the worker last told the arbiter that it lives, in monotonic seconds.
        timeout_s: Gunicorn's `timeout`; 0 means that nothing is ever due.
        margin_s: how long before the timeout a request is looked at.
        slow_s: a request that runs longer is reported while it runs; None for never.
        slow_interval_s: report it again every so often; None for once.
        on_due: told of a request whose deadline has come, with what was seen.
        on_slow: told of a slow request, with what was seen.
        on_abort: called, here, after the worker has been told that it will be killed.
        describe: makes the text of a stack.
    """

    def __init__(
        self,
        *,
        in_flight: Mapping[int, RequestScope],
        heartbeat: Callable[[], float],
        timeout_s: float,
        margin_s: float,
        slow_s: float | None,
        slow_interval_s: float | None,
        on_due: Callable[[RequestScope], None],
        on_slow: Callable[[RequestScope], None],
        on_abort: Callable[[], None],
        describe: Describe,
    ) -> None:
        self._in_flight = in_flight
        self._heartbeat = heartbeat
        # With a timeout shorter than the margin the first half of it is still the request's.
        allowed_s = timeout_s - margin_s if timeout_s > margin_s else timeout_s / 2
        self._allowed_ns = round(allowed_s * _NS)
        self._slow_ns = round(slow_s * _NS) if slow_s is not None else None
        self._slow_interval_ns = round(slow_interval_s * _NS) if slow_interval_s else None
        self._on_due = on_due
        self._on_slow = on_slow
        self._on_abort = on_abort
        self._describe = describe
        self._is_stopping = False
        self._is_aborting = False
        original = _unpatched()
        # A bare lock, taken, is the smallest thing to sleep on; releasing it is safe in a signal
        # handler, where an Event's inner lock might be held by the code that was interrupted.
        self._alarm = original["allocate_lock"]()
        self._alarm.acquire()
        self._left = original["allocate_lock"]()
        self._start_thread = original["start_new_thread"]

    def start(self) -> None:
        """Start the thread, unless nothing is to be watched for."""
        if self._allowed_ns or self._slow_ns is not None:
            self._left.acquire()
            self._start_thread(self._run, ())

    def stop(self) -> None:
        """End the thread and wait for it, `STOP_S` at most."""
        self._is_stopping = True
        self._ring()
        self._left.acquire(True, STOP_S)

    def abort(self) -> None:
        """Mark what is open, because the worker is about to be killed, and wake the thread.

        Runs in a signal handler: it may have interrupted anything, so it takes no lock.
        """
        for scope in list(self._in_flight.values()):
            scope.is_aborted = True
            if scope.stuck is None:
                with guarded("looking at an aborted request"):
                    scope.stuck = sight(scope, self._describe)
        self._is_aborting = True
        self._ring()

    def look(self, now_ns: int) -> int:
        """Look at every request that is due by now; return when to look again, monotonic ns."""
        next_ns = now_ns + round(LONGEST_SLEEP_S * _NS)
        beat_ns = 0
        if self._allowed_ns:
            # Before its first heartbeat a worker's file has the time of its making, by another clock.
            beat_ns = min(round(self._heartbeat() * _NS), now_ns)
            # No request that begins from now on can be due before this.
            coming_ns = beat_ns + self._allowed_ns
            next_ns = min(next_ns, coming_ns if coming_ns > now_ns else now_ns + self._allowed_ns)
        if self._slow_ns is not None:
            next_ns = min(next_ns, now_ns + self._slow_ns)
        for scope in list(self._in_flight.values()):
            if scope.ended_ns is not None:
                # Answered; an ASGI application may still be tidying up.
                continue
            again_ns = now_ns + round(TRY_AGAIN_S * _NS)
            # One for each: a request that can't be told of hides no other.
            with guarded("watching a request"):
                again_ns = self._look_at(scope, now_ns, beat_ns)
            next_ns = min(next_ns, again_ns)
        return next_ns

    def _look_at(self, scope: RequestScope, now_ns: int, beat_ns: int) -> int:
        """Look at one request if it is due by now; return when to look at it again."""
        next_ns = now_ns + round(LONGEST_SLEEP_S * _NS)
        soon_ns = now_ns + round(LOOK_AGAIN_S * _NS)
        if self._allowed_ns and scope.stuck is None:
            # Gunicorn's clock runs since the heartbeat, before the request's head was read.
            since_ns = beat_ns
            if not scope.is_exempt_from_deadline:
                since_ns = min(scope.started_ns, beat_ns)
            due_ns = since_ns + self._allowed_ns
            if due_ns <= now_ns:
                self._sight_due(scope)
                due_ns = soon_ns
            if scope.stuck is None:
                next_ns = min(next_ns, due_ns)
        if self._slow_ns is not None:
            slow_ns = self._when_slow(scope)
            if slow_ns is not None and slow_ns <= now_ns:
                self._sight_slow(scope)
                slow_ns = self._when_slow(scope)
            if slow_ns is not None:
                next_ns = min(next_ns, max(slow_ns, soon_ns))
        return next_ns

    def _run(self) -> None:
        try:
            _name_thread()
            while not self._is_stopping:
                wake_ns = time.monotonic_ns() + _NS
                with guarded("watching requests"):
                    wake_ns = self.look(time.monotonic_ns())
                sleep_s = (wake_ns - time.monotonic_ns()) / _NS
                if sleep_s > 0 and self._alarm.acquire(True, sleep_s) and self._is_aborting:
                    self._is_aborting = False
                    with guarded("saving the spans of an aborted worker"):
                        self._on_abort()
        finally:
            self._left.release()

    def _ring(self) -> None:
        if self._alarm.locked():
            self._alarm.release()

    def _when_slow(self, scope: RequestScope) -> int | None:
        assert self._slow_ns is not None
        if scope.is_exempt_from_slow:
            return None
        if scope.slow is None:
            return scope.started_ns + self._slow_ns
        if self._slow_interval_ns is None:
            return None
        return scope.slow.seen_ns + self._slow_interval_ns

    def _sight_due(self, scope: RequestScope) -> None:
        sample = sight(scope, self._describe)
        if sample is not None:
            scope.stuck = sample
            self._on_due(scope)

    def _sight_slow(self, scope: RequestScope) -> None:
        sample = sight(scope, self._describe)
        if sample is None:
            return
        before, scope.slow = scope.slow, sample
        try:
            self._on_slow(scope)
        except Exception:
            # Not told of, so it is due still.
            scope.slow = before
            raise


#: What the interpreter calls on SIGABRT: ours, that holds it back, or Gunicorn's.
ABORT_HANDLERS = (IN_FRONT, "handle_abort")


def sight(scope: RequestScope, describe: Describe) -> StackSample | None:
    """Look at what runs a request; None if it can't be seen now, or has ended meanwhile.

    Frames are not kept: that would keep alive what the app means to let go.
    """
    frames = _uninterrupted(frames_of(scope.runner, scope.thread_id))
    if not frames:
        return None
    location = locate_stack(as_frames(frames))
    stack = ""
    # The place is worth having without the text.
    with guarded("describing a stack"):
        stack = describe(frames)
    sample = StackSample(
        seen_ns=time.monotonic_ns(),
        loc=location.loc if location else None,
        cause_loc=location.cause_loc if location else None,
        stack=stack,
    )
    # A thread serves one request at a time: still open means that this was its stack.
    return None if scope.is_claimed else sample


def _uninterrupted(frames: list[FrameType]) -> list[FrameType]:
    """Return the frames below the handler of SIGABRT, Gunicorn's behind ours, if that is on top."""
    for position in range(len(frames) - 1, 0, -1):
        if frames[position].f_code.co_name in ABORT_HANDLERS:
            return _uninterrupted(frames[:position])
    return frames


def _name_thread() -> None:
    # For `threading.enumerate` and stack dumps; the thread was started below that module.
    import threading

    threading.current_thread().name = "otel-canonical-watchdog"


def _unpatched() -> Mapping[str, Any]:
    """Return the thread functions as they were before gevent, if it is there, replaced them."""
    names = ("allocate_lock", "start_new_thread")
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return {name: monkey.get_original("_thread", name) for name in names}
    return {name: getattr(_thread, name) for name in names}
