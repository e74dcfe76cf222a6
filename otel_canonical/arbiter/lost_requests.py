"""Writes the `lost` and `timeout` lines of requests whose worker died, from what the scoreboard shows.

Lives in the arbiter, in its main thread only: nothing here starts a thread, takes a lock or talks to a
network, so the arbiter can be forked at any moment.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from otel_canonical.arbiter.exit_causes import ExitCauses
from otel_canonical.event.chosen_fields import without_excluded
from otel_canonical.event.event import CanonicalEvent, EventType, timestamp
from otel_canonical.event.fields import FieldValue
from otel_canonical.event.rows import seconds
from otel_canonical.internal_errors import guarded, tell, warn
from otel_canonical.pool.counters import QUEUED_LOGS, QUEUED_SPANS
from otel_canonical.pool.ledger import PoolLedger
from otel_canonical.pool.open_request import OpenRequest
from otel_canonical.pool.open_routes import open_routes, shown_routes
from otel_canonical.pool.place import Place
from otel_canonical.pool.slots import CLOSING
from otel_canonical.request.always_export import AlwaysExport
from otel_canonical.request.pool_facts import pool_row
from otel_canonical.request.reports import LostRequestReport, TraceIds
from otel_canonical.settings import Settings
from otel_canonical.stacks import crash_dump
from otel_canonical.stacks.location import Frame, StackLocation, locate_stack

#: The shortest time between two reports of what dead workers had not exported.
TELL_INTERVAL_S = 60.0
#: At the end Gunicorn kills the last workers without waiting for their death; we wait this long.
LAST_DEATHS_S = 1.0

#: Keys of the line, and the text of the slot that each shows.
WHAT = {"req_method": "method", "req_path": "path"}
WHO = {"req_route": "route", "resp_view": "view", "req_client": "client", "req_host": "host"}


class LostRequests:
    """Reserves each worker's place before the fork and writes what is left open in it after its death.

    Args:
        settings: the operator's choice.
        ledger: gives out places.
        emit: writes an event.
        send: takes the report of each lost request, for what is exported.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: PoolLedger,
        emit: Callable[[CanonicalEvent], None],
        send: Callable[[LostRequestReport], None],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._rule = AlwaysExport(settings)
        self._emit = emit
        self._send = send
        self._exit_causes = ExitCauses()
        self._places: dict[int, Place | None] = {}
        self._has_told_of_refusal = False
        #: Spans and log records of dead workers that were not exported and not reported yet.
        self._unsent = [0, 0]
        self._unsent_told_monotonic = float("-inf")

    def reconfigure(self, settings: Settings, emit: Callable[[CanonicalEvent], None]) -> None:
        """Take over the configuration of a reload."""
        self._settings = settings
        self._rule = AlwaysExport(settings)
        self._emit = emit

    def open_place(self, worker: Any) -> Place | None:
        """Reserve the place of a worker that is about to be forked; return None if there is no room."""
        place = self._ledger.open_place()
        if place is None:
            warn("no memory for another scoreboard; some workers have no `lost` lines")
        else:
            place = replace(place, stacks=crash_dump.make_file())
            if place.stacks is None and not self._has_told_of_refusal:
                self._has_told_of_refusal = True
                tell("no memfd is to be had; requests of workers that crash have no location")
        # By the worker's age: it has no pid yet, and an age is never given twice.
        self._places[worker.age] = place
        return place

    def pids(self, workers: Iterable[Any]) -> dict[int, int]:
        """Return the pids of workers, by their numbers in the pool."""
        found: dict[int, int] = {}
        # Copied: in Gunicorn 23 a signal handler removes dead workers at any moment.
        for worker in list(workers):
            place = self._places.get(worker.age)
            if place is not None:
                found[place.number] = worker.pid
        return found

    def close_others(self, worker: Any | None) -> None:
        """Close what belongs to workers other than this one (in a child of the arbiter)."""
        kept = None if worker is None else worker.age
        for age, place in self._places.items():
            if age != kept and place is not None and place.stacks is not None:
                with contextlib.suppress(OSError):
                    os.close(place.stacks)
        self._places.clear()

    def note_signal(self, pid: int, number: int) -> None:
        """Note a signal that Gunicorn is about to send to a worker."""
        self._exit_causes.note_signal(pid, number)

    def note_status(self, pid: int, status: int) -> None:
        """Note how a child of the arbiter has ended, perhaps a worker of ours."""
        self._exit_causes.note_status(pid, status)

    def close_place(self, worker: Any) -> None:
        """Write the lines of the requests that a dead worker left open, and free its place."""
        if worker.age not in self._places:
            return
        place = self._places.pop(worker.age)
        is_timeout = self._exit_causes.is_timeout(worker.pid)
        # Asked once for all of its requests: asking consumes one of the kernel's OOM kills.
        cause = self._exit_causes.cause(worker.pid)
        try:
            if place is not None:
                left_open = self._left_open(place)
                open_now = shown_routes(open_routes(place.scoreboard)) if left_open else ""
                # Where several requests share a thread, a dumped stack could be any of theirs.
                is_certain = place.scoreboard.is_bounded or len(left_open) == 1
                for request in left_open:
                    with guarded("writing the line of a request that died"):
                        self._write(
                            worker.pid,
                            request,
                            place,
                            "" if is_timeout else cause,
                            open_now,
                            is_certain=is_certain,
                        )
        finally:
            self._exit_causes.forget(worker.pid)
            if place is not None:
                self._tell_of_unsent(place)
            self._ledger.close_place(place, "timeout" if is_timeout else cause)
            if place is not None and place.stacks is not None:
                os.close(place.stacks)

    def _tell_of_unsent(self, place: Place) -> None:
        """Report what a dead worker had not exported yet, at most once a minute."""
        words = place.words()
        self._unsent[0] += words[QUEUED_SPANS]
        self._unsent[1] += words[QUEUED_LOGS]
        now = time.monotonic()
        if any(self._unsent) and now - self._unsent_told_monotonic >= TELL_INTERVAL_S:
            self._unsent_told_monotonic = now
            spans, logs = self._unsent
            self._unsent = [0, 0]
            tell(
                f"{spans} spans and {logs} log records were lost with workers that died before they had "
                "exported them; no line is affected"
            )

    def close_all_places(self, workers: Iterable[Any]) -> None:
        """Close the places of workers that Gunicorn has killed at its own end without reaping them."""
        deadline = time.monotonic() + LAST_DEATHS_S
        for worker in list(workers):
            while not self._exit_causes.is_dead(worker.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            self.close_place(worker)

    def _left_open(self, place: Place) -> list[OpenRequest]:
        # CLOSING: the worker died between two system calls, around the one that wrote the line.
        return [
            request
            for slot in place.slots()
            if slot.state() != CLOSING and (request := slot.read()) is not None
        ]

    def _write(
        self,
        pid: int,
        request: OpenRequest,
        place: Place,
        lost_cause: str,
        open_now: str,
        *,
        is_certain: bool,
    ) -> None:
        """Write the line of one request; with no `lost_cause` it is a timeout.

        `is_certain` says whether a dumped stack must be its own, `open_now` which routes are open.
        """
        ended_ns = time.monotonic_ns()
        now_ns = time.time_ns()
        is_timeout = not lost_cause
        location, stack = _last_seen(request, place if is_certain else None)
        kind = EventType.TIMEOUT if is_timeout else EventType.LOST
        rule = None
        if request.is_exported or request.is_kept:
            rule = self._rule.reason_when_lost(kind, ended_ns - request.started_ns)
        pairs: list[tuple[str, FieldValue]] = [
            ("ts", timestamp(now_ns)),
            ("event_type", kind.value),
            *_text_pairs(request, WHAT),
            *([("resp_status", request.status)] if request.status is not None else ()),
            ("resp_time", seconds(ended_ns - request.started_ns)),
            *_text_pairs(request, WHO),
        ]
        if not is_timeout:
            pairs.append(("lost_cause", lost_cause))
        if location is not None:
            prefix = "timeout" if is_timeout else "lost"
            if location.loc is not None:
                pairs.append((f"{prefix}_loc", location.loc))
            pairs.append((f"{prefix}_cause_loc", location.cause_loc))
        if is_timeout and request.watched.get("after_s"):
            pairs.append(("timeout_seen", float(request.watched["after_s"])))
        if request.queries:
            pairs.append(("db_queries", request.queries))
        pairs.append(("g_open", open_now))
        row, values = pool_row(place.scoreboard.pool_state(ended_ns))
        pairs += row.pairs(values)
        pairs.append(("g_pid", pid))
        pairs += _id_pairs(request, is_exported=request.is_exported or rule is not None)
        shown = without_excluded(pairs, self._settings.excluded_fields)
        event = CanonicalEvent.of_pairs(kind, shown, stack, now_ns)
        self._emit(event)
        self._send(_report_of(event, request, ended_ns, rule))


def _report_of(
    event: CanonicalEvent, request: OpenRequest, ended_ns: int, rule: str | None
) -> LostRequestReport:
    texts = request.texts
    method, route = texts.get("method", ""), texts.get("route")
    return LostRequestReport(
        span_name=f"{method} {route}" if route else method,
        ids=TraceIds(
            texts.get("trace_id", ""),
            texts.get("span_id", ""),
            texts.get("caller_span_id", ""),
            is_exported=request.is_exported or rule is not None,
        ),
        started_wall_ns=request.started_wall_ns,
        ended_wall_ns=request.started_wall_ns + ended_ns - request.started_ns,
        event=event,
        export_rule=rule,
    )


def _text_pairs(request: OpenRequest, keys: Mapping[str, str]) -> Iterator[tuple[str, FieldValue]]:
    for key, name in keys.items():
        if request.texts.get(name):
            yield key, request.texts[name]


def _id_pairs(request: OpenRequest, *, is_exported: bool) -> list[tuple[str, FieldValue]]:
    texts = request.texts
    pairs: list[tuple[str, FieldValue]] = []
    if texts.get("request_id"):
        pairs.append(("req_id", texts["request_id"]))
    if texts.get("trace_id"):
        pairs.append(("trace_id", texts["trace_id"]))
        pairs.append(("span_id", texts["span_id"]))
        pairs.append(("sampled", is_exported))
    return pairs


def _last_seen(request: OpenRequest, place: Place | None) -> tuple[StackLocation | None, str]:
    """Return where the request was last seen: by the watchdog, else in the crash dump; and its stack."""
    stacks: dict[int, list[Frame]] = {}
    if place is not None and place.stacks is not None:
        stacks = crash_dump.read_stacks(place.stacks)
    frames = stacks.get(request.thread_id) or stacks.get(0)
    located = locate_stack(frames) if frames else None
    watched = request.watched
    if watched.get("cause_loc"):
        seen = StackLocation(watched.get("loc") or None, watched["cause_loc"])
        # The watchdog looked at the deadline; that is what a timeout's location means.
        return seen, crash_dump.as_text(frames or [])
    return located, crash_dump.as_text(frames or [])
