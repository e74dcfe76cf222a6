"""The watchdog: one thread per worker that samples the stack of slow and stuck requests.

Lives in the worker, a real thread also where gevent has patched the standard library. It sleeps until the
next moment at which any request could be due. A request that begins or ends doesn't wake it, so watching
costs a request nothing. At a deadline it only samples: the line is written when the outcome is known.
"""

from __future__ import annotations

import _thread
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from otel_canonical.internal_errors import guarded
from otel_canonical.request.scope import RequestScope
from otel_canonical.stacks.text import Describe
from otel_canonical.worker.alarm import Alarm, unpatched
from otel_canonical.worker.stack_samples import sample_stack

#: The longest sleep; also bounds how long `stop` may wait.
LONGEST_SLEEP_S = 60.0
#: When to sample a request again that had no stack: its greenlet or task was being switched.
SAMPLE_AGAIN_S = 0.05
#: When to try a request again after sampling or reporting it has failed.
TRY_AGAIN_S = 1.0
#: How long to wait for the thread's end when it is stopped.
STOP_S = 1.0

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Deadlines:
    """When requests are sampled.

    Attributes:
        timeout_s: Gunicorn's `timeout`; 0 means that no request ever has a deadline.
        margin_s: how long before the timeout the deadline is.
        slow_s: a request that runs longer is reported while it runs; None for never.
        slow_interval_s: how often it is reported again; None for once.
    """

    timeout_s: float
    margin_s: float
    slow_s: float | None
    slow_interval_s: float | None

    @property
    def allowed_ns(self) -> int:
        """The time from a heartbeat to the deadline; 0 without a timeout.

        With a timeout shorter than the margin it is half the timeout.
        """
        is_longer = self.timeout_s > self.margin_s
        return round((self.timeout_s - self.margin_s if is_longer else self.timeout_s / 2) * _NS)


class WatchdogListener(Protocol):
    """What the watchdog's thread calls. The stack's sample is in the scope by then."""

    def due(self, scope: RequestScope) -> None:
        """Take note of a request whose deadline has come."""

    def slow(self, scope: RequestScope) -> None:
        """Report a slow request."""

    def save_spans(self) -> None:
        """End and export the spans of open requests: the worker is about to be killed."""

    def watching(self, native_id: int) -> None:
        """Take note of the thread's id, as the kernel knows it."""

    def answer(self, asked: bytes) -> None:
        """Answer a command that has woken the thread from outside."""


class Watchdog:
    """Samples requests that are near their deadline or slow.

    Args:
        in_flight: the open requests; read, never changed.
        deadlines: when they are sampled.
        heartbeat: returns when the worker last told the arbiter that it is alive, monotonic seconds.
        listener: called with the requests that were sampled.
        describe: makes the text of a stack.
    """

    def __init__(
        self,
        in_flight: Mapping[int, RequestScope],
        deadlines: Deadlines,
        heartbeat: Callable[[], float],
        listener: WatchdogListener,
        describe: Describe,
    ) -> None:
        self._in_flight = in_flight
        self._heartbeat = heartbeat
        self._allowed_ns = deadlines.allowed_ns
        slow_s, interval_s = deadlines.slow_s, deadlines.slow_interval_s
        self._slow_ns = round(slow_s * _NS) if slow_s is not None else None
        self._slow_interval_ns = round(interval_s * _NS) if interval_s else None
        self._listener = listener
        self._describe = describe
        self._is_stopping = False
        self._is_aborting = False
        self.alarm = Alarm()
        self._left = unpatched("_thread", "threading", "allocate_lock")()
        self._start_thread = unpatched("_thread", "threading", "start_new_thread")

    def start(self) -> None:
        """Start the thread."""
        self._left.acquire()
        self._start_thread(self._run, ())

    def set_slow(self, slow_s: float | None) -> None:
        """Report requests that run longer than this from now on; None for never."""
        self._slow_ns = round(slow_s * _NS) if slow_s is not None else None
        self.alarm.ring()

    def stop(self) -> None:
        """End the thread and wait for it, `STOP_S` at most."""
        self._is_stopping = True
        self.alarm.ring()
        self._left.acquire(True, STOP_S)

    def abort(self) -> None:
        """Mark the open requests as aborted and wake the thread: the worker is about to be killed.

        Runs in a signal handler: it may have interrupted any code, so it takes no lock.
        """
        for scope in list(self._in_flight.values()):
            scope.is_aborted = True
            if scope.stuck is None:
                with guarded("sampling an aborted request"):
                    scope.stuck = sample_stack(scope, self._describe)
        self._is_aborting = True
        self.alarm.ring()

    def check(self, now_ns: int) -> int:
        """Sample every request that is due by now; return when to check again, monotonic ns."""
        next_ns = now_ns + round(LONGEST_SLEEP_S * _NS)
        beat_ns = 0
        if self._allowed_ns:
            # Before the first heartbeat the worker's file has the time of its creation, by another clock.
            beat_ns = min(round(self._heartbeat() * _NS), now_ns)
            # No request that begins later can be due before this.
            coming_ns = beat_ns + self._allowed_ns
            next_ns = min(next_ns, coming_ns if coming_ns > now_ns else now_ns + self._allowed_ns)
        if (slow_ns := self._slow_ns) is not None:
            next_ns = min(next_ns, now_ns + slow_ns)
        for scope in list(self._in_flight.values()):
            if scope.ended_ns is not None:
                # Answered; an ASGI application may still be running.
                continue
            again_ns = now_ns + round(TRY_AGAIN_S * _NS)
            # Guarded one by one: a request that can't be reported hides no other.
            with guarded("watching a request"):
                again_ns = self._check_one(scope, now_ns, beat_ns)
            next_ns = min(next_ns, again_ns)
        return next_ns

    def _check_one(self, scope: RequestScope, now_ns: int, beat_ns: int) -> int:
        """Sample one request if it is due by now; return when to check it again."""
        next_ns = now_ns + round(LONGEST_SLEEP_S * _NS)
        soon_ns = now_ns + round(SAMPLE_AGAIN_S * _NS)
        if self._allowed_ns and scope.stuck is None:
            # Gunicorn's timeout runs from the heartbeat, before the request's head was read.
            since_ns = beat_ns
            if not scope.is_exempt_from_deadline:
                since_ns = min(scope.started_ns, beat_ns)
            due_ns = since_ns + self._allowed_ns
            if due_ns <= now_ns:
                self._sample_due(scope)
                due_ns = soon_ns
            if scope.stuck is None:
                next_ns = min(next_ns, due_ns)
        slow_after_ns = self._slow_ns
        if slow_after_ns is not None:
            slow_ns = self._when_slow(scope, slow_after_ns)
            if slow_ns is not None and slow_ns <= now_ns:
                self._sample_slow(scope)
                slow_ns = self._when_slow(scope, slow_after_ns)
            if slow_ns is not None:
                next_ns = min(next_ns, max(slow_ns, soon_ns))
        return next_ns

    def _run(self) -> None:
        try:
            _name_thread()
            self._listener.watching(_thread.get_native_id())
            while not self._is_stopping:
                wake_ns = time.monotonic_ns() + _NS
                with guarded("watching requests"):
                    wake_ns = self.check(time.monotonic_ns())
                sleep_s = (wake_ns - time.monotonic_ns()) / _NS
                asked = self.alarm.wait(max(sleep_s, 0.0))
                if asked:
                    with guarded("answering `otel-canonical stacks`"):
                        self._listener.answer(asked)
                if self._is_aborting:
                    self._is_aborting = False
                    with guarded("saving the spans of an aborted worker"):
                        self._listener.save_spans()
        finally:
            self._left.release()

    def _when_slow(self, scope: RequestScope, slow_after_ns: int) -> int | None:
        if scope.is_exempt_from_slow:
            return None
        if scope.slow is None:
            return scope.started_ns + slow_after_ns
        if self._slow_interval_ns is None:
            return None
        return scope.slow.seen_ns + self._slow_interval_ns

    def _sample_due(self, scope: RequestScope) -> None:
        sample = sample_stack(scope, self._describe)
        if sample is not None:
            scope.stuck = sample
            self._listener.due(scope)

    def _sample_slow(self, scope: RequestScope) -> None:
        sample = sample_stack(scope, self._describe)
        if sample is None:
            return
        before, scope.slow = scope.slow, sample
        try:
            self._listener.slow(scope)
        except Exception:
            # It was not reported, so it is still due.
            scope.slow = before
            raise


def _name_thread() -> None:
    # For `threading.enumerate` and stack dumps; the thread was not started by that module.
    import threading

    threading.current_thread().name = "otel-canonical-watchdog"
