"""The canonical log of one worker: opens a scope for each request and writes the event that ends it."""

from __future__ import annotations

import os
import sys
import time

# As in `request.scope`.
from _thread import get_ident
from collections.abc import Callable, Mapping

from otel_canonical.event.event import EventType
from otel_canonical.internal_errors import guarded, is_apps_own, report_app_code, report_caught
from otel_canonical.pool.counters import UNSHOWN, Counts, no_counts
from otel_canonical.pool.place import Place
from otel_canonical.pool.slots import OPEN
from otel_canonical.process.garbage import collections
from otel_canonical.process.identity import own, when_forked
from otel_canonical.process.resident import SELDOM_NS, resident_memory
from otel_canonical.process.run_queue import SIZE, run_queue
from otel_canonical.request.deferred_signals import DeferredSignals
from otel_canonical.request.headers import (
    FACT_HEADERS,
    LENGTH_DIGITS,
    OWN_HEADERS,
    incoming_id,
    without_port,
)
from otel_canonical.request.hidden_attributes import HiddenAttributes
from otel_canonical.request.progress import Outputs, RequestProgress
from otel_canonical.request.random_digits import random_digits
from otel_canonical.request.root import RootFactory
from otel_canonical.request.scope import RequestScope, current_scope, readers
from otel_canonical.request.slot_stock import SlotStock
from otel_canonical.settings import Settings

#: How often a line is tried again when signal handlers of the app's raise while it is made.
MOST_TRIES = 3


class CanonicalLog(RequestProgress):
    """Opens and closes requests, for any server and for tests.

    Args:
        settings: the operator's choice.
        root_factory: gives each request its root span.
        outputs: take the events.
        place: the worker's, whose slots show open requests to the arbiter. A request that finds no free
            slot is served and logged like any other, and counted as `unshown`. None shows no request.
        signals: deferred while a request is opened or closed.
        times_cpu: whether a thread serves one request at a time, so that its CPU time is the request's.
    """

    def __init__(
        self,
        settings: Settings,
        root_factory: RootFactory,
        outputs: Outputs,
        place: Place | None = None,
        signals: DeferredSignals | None = None,
        *,
        times_cpu: bool = True,
    ) -> None:
        super().__init__(settings, root_factory, outputs, place)
        self.header_names = FACT_HEADERS | root_factory.header_names
        self._pid = os.getpid()
        self._times_cpu = times_cpu
        self._signals = signals if signals is not None else DeferredSignals()
        self._slots = SlotStock(place)
        self._free_slots, self._new_slot = self._slots.free, self._slots.new
        #: A word of the scoreboard, and what it was when `on_switch` was called for it.
        self._generation = place.scoreboard.switches_generation if place is not None else [0]
        self._seen_generation = 0
        #: Called at the beginning of a request when `otel-canonical set` has changed something.
        self.on_switch: Callable[[], object] = _do_nothing
        self._counts: Counts = place.counts() if place is not None else no_counts()
        #: Every open request, by its `id()`.
        self.in_flight: dict[int, RequestScope] = {}
        self._hidden = HiddenAttributes(settings)
        when_forked(self._disown)

    def open(
        self, method: str, path: str, headers: Mapping[str, str], client: str | None = None
    ) -> RequestScope | None:
        """Open the scope of a request that was just accepted and make it the current one.

        Args:
            method: as the client sent it.
            path: without the query string, percent-encoded as sent.
            headers: those of `header_names` that were sent; names in capitals.
            client: the peer's address.

        Returns:
            The scope; None if the operator excludes this URL.
        """
        signals = self._signals
        signals.are_deferred = True
        try:
            return self._open(method, path, headers, client)
        except BaseException as error:
            if not is_apps_own(error):
                # A signal handler of the app's raised in here: its request has a scope all the same.
                self._open_again(method, path, headers, client)
            raise
        finally:
            signals.are_deferred = False
            if signals.waiting is not None:
                signals.deliver()

    def _open(
        self, method: str, path: str, headers: Mapping[str, str], client: str | None
    ) -> RequestScope | None:
        excluded = self.settings.excluded_urls
        if not own[0] or (excluded is not None and excluded.search(path)):
            current_scope.set(None)
            return None
        scope = RequestScope(method, path, headers)
        if self._times_cpu:
            # As `RunQueue.read` does, without its call.
            try:
                scope.waited = os.pread(run_queue.files[scope.thread_id], SIZE, 0)
            except (KeyError, ProcessLookupError):
                scope.waited = run_queue.read()
        scope.collected, scope.modules = collections.totals, len(sys.modules)
        if scope.started_ns - resident_memory.seen_ns > SELDOM_NS:
            scope.resident = resident_memory.look(scope.started_ns)
        elif resident_memory.is_current and not self.in_flight:
            scope.resident = resident_memory.bytes
        scope.pid = self._pid
        scope.observer = self
        scope.client = client
        if "HOST" in headers:
            scope.host = without_port(headers["HOST"])
        if "CONTENT-LENGTH" in headers:
            length = headers["CONTENT-LENGTH"]
            if length.isdecimal() and len(length) <= LENGTH_DIGITS:
                scope.content_length = int(length)
        # Skip id and queue look-ups when the request has none of those headers, the usual case.
        has_context_headers = scope.has_context_headers = not OWN_HEADERS.issuperset(headers)
        if has_context_headers:
            self._note_queue_time(scope)
        try:
            digits = random_digits.ready.pop()
        except IndexError:
            digits = random_digits.make()
        scope.request_id = (has_context_headers and incoming_id(headers)) or digits[48:]
        root = self._root_factory.open(scope, digits, is_called=has_context_headers)
        current_scope.set(scope)
        if self._generation[0] != self._seen_generation:
            self._notice_switch()
        self.in_flight[id(scope)] = scope
        slot = scope.slot = self._free_slots.pop() if self._free_slots else self._new_slot()
        if slot is not None:
            trace_id = span_id = caller_id = ""
            if root.is_named:
                trace_id, span_id = root.trace_id, root.span_id
                caller_id = root.caller_span_id if root.caller is not None else ""
            request_id, host = scope.request_id, scope.host or ""
            shown = path if "eyJ" not in path else self._redaction.path(path, {})
            texts = (request_id, trace_id, span_id, caller_id, method, host, client or "", shown)
            slot.open(scope.thread_id, scope.started_ns, scope.started_wall_ns, root.mark, texts)
        elif self._scoreboard is not None:
            self._counts[UNSHOWN] += 1
        return scope

    def _open_again(
        self, method: str, path: str, headers: Mapping[str, str], client: str | None
    ) -> None:
        scope = current_scope.get()
        if scope is None or scope.is_claimed:
            self._open(method, path, headers, client)
        elif scope.slot is not None and scope.slot.state() != OPEN:
            self._free_slots.append(scope.slot)
            scope.slot = None
        self._slots.take_back(self.in_flight.values())

    def _notice_switch(self) -> None:
        generation = self._generation[0]
        with guarded("applying what was switched"):
            self.on_switch()
        self._seen_generation = generation

    def close(self, scope: RequestScope) -> bool:
        """Write the one event of a request that has ended; return False if it was written before.

        A request that ended because its worker was aborted is a `timeout`; one that its worker gave up
        is `lost`. In a fork of the worker nothing is written.
        """
        signals = self._signals
        signals.are_deferred = True
        try:
            if not own[0] or not scope.claim():
                return False
            if scope.ended_ns is None:
                scope.ended_ns = time.monotonic_ns()
            # Another thread, which closes it when the worker is told to end, knows nothing of its CPU time.
            if self._times_cpu and scope.ended_cpu_ns is None and get_ident() == scope.thread_id:
                scope.ended_cpu_ns = time.thread_time_ns()
                if scope.waited is not None and scope.thread_id in run_queue.files:
                    scope.ended_waited = os.pread(run_queue.files[scope.thread_id], SIZE, 0)
            resident_memory.is_current = False
            # Readers call code of the app, which may hang: signals that end the worker must work here.
            signals.are_deferred = False
            if signals.waiting is not None:
                signals.deliver()
            for reader in readers:
                try:
                    reader(scope)
                except BaseException as error:  # noqa: BLE001, PERF203  # see `report_app_code`
                    report_app_code("reading the facts of a request", error)
            signals.are_deferred = True
            self._end(scope)
        except BaseException:
            # A signal handler, Gunicorn's or one of the app's, raised at any point of the above.
            signals.are_deferred = True
            self._end_interrupted(scope)
            raise
        finally:
            signals.are_deferred = False
            if signals.waiting is not None:
                signals.deliver()
        return True

    def _end_interrupted(self, scope: RequestScope) -> None:
        if not scope.is_claimed:
            return
        scope.ended_ns = scope.ended_ns or time.monotonic_ns()
        if id(scope) not in self.in_flight and not scope.is_left_later:
            self.leave(scope)
        for tries in range(MOST_TRIES):
            if id(scope) not in self.in_flight:
                break
            try:
                self._end(scope, is_least=tries == MOST_TRIES - 1)
            except BaseException:  # noqa: BLE001  # the first one is raised, behind the line
                continue
        self._slots.take_back(self.in_flight.values())

    def _end(self, scope: RequestScope, *, is_least: bool = False) -> None:
        """Write the line, unless it was written already, and forget the request."""
        if not scope.is_written:
            event_type = EventType.TIMEOUT if scope.is_aborted else EventType.REQUEST
            if scope.lost_cause is not None and not scope.is_aborted:
                event_type = EventType.LOST
            scope.is_open = False
            if self._scoreboard is not None:
                # Read while this request's own slot is still open, so that it counts itself.
                scope.pool = self._scoreboard.pool_state(scope.ended_ns or scope.started_ns)
            if self._root_factory.keeps_unsampled and scope.root.is_recorded:
                with guarded("deciding on a request's export"):
                    self._decide(scope, self._rule.reason(scope, event_type))
            try:
                if is_least:
                    raise RuntimeError("interrupted again and again")
                event = self._composer.request_event(scope, event_type)
            except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
                if not is_least:
                    report_caught("composing an event", error)
                # An incomplete line is better than none.
                event = self._composer.least_event(scope, event_type)
            line = self._encode(event)
            scope.is_written = True
            self._write(event, line, scope.slot)
            if scope.root.is_recorded:
                with guarded("ending the root span of a request"):
                    scope.root.finish(event, scope, self._hidden.replaced)
            if self._export is not None:
                self._export(event, scope)
        if self.in_flight.pop(id(scope), None) is None:
            return
        if not scope.is_left_later:
            # As `leave` does, without its call.
            if current_scope.get() is scope:
                current_scope.set(None)
            scope.root.detach()
        slot, scope.slot = scope.slot, None
        if slot is not None:
            slot.close(time.monotonic_ns())
            self._free_slots.append(slot)

    def leave(self, scope: RequestScope) -> None:
        """Make a request with `is_left_later` the current one no more, in the context it was opened in."""
        if current_scope.get() is scope:
            current_scope.set(None)
        scope.root.detach()

    def _disown(self) -> None:
        """Forget all requests, in a fork of the worker: they are the worker's."""
        for scope in self.in_flight.values():
            scope.claim()
            scope.is_open, scope.slot = False, None
        self.in_flight.clear()
        self._free_slots = []


def _do_nothing() -> None:
    """Stand in for what there is with a scoreboard only."""
