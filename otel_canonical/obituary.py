"""The line of a request whose worker died: written from what the worker had noted on the shared page.

Lives in the arbiter, in its main thread only, which Gunicorn calls us in: nothing here starts a
thread, takes a lock or talks to a network, so the arbiter can be forked at any moment.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from otel_canonical import stack_location, stack_recorder
from otel_canonical.composition import pool_row, without_excluded
from otel_canonical.death_certificates import DeathCertificates
from otel_canonical.event import CanonicalEvent, EventType, seconds, timestamp
from otel_canonical.export_rule import ExportRule
from otel_canonical.fence import Fence, warn
from otel_canonical.fields import FieldValue
from otel_canonical.pool_ledger import Place, PoolLedger
from otel_canonical.settings import Settings
from otel_canonical.slots import CLOSING, OpenRequest
from otel_canonical.stack_location import StackLocation

#: At the end Gunicorn kills the last workers without waiting for their death; we wait this long.
LAST_DEATHS_S = 1.0


@dataclass(frozen=True, slots=True)
class Berth(Place):
    """What the arbiter keeps for one worker: its place in the pool and the file for its stacks."""

    stacks: int | None


@dataclass(frozen=True, slots=True)
class Death:
    """A request that died with its worker. `ended_ns` is monotonic."""

    event: CanonicalEvent
    request: OpenRequest
    ended_ns: int
    #: Why its root is exported whatever the sampler said; None if it is not, or not therefore.
    export_rule: str | None = None

    @property
    def is_exported(self) -> bool:
        """Return whether its root is exported."""
        return self.request.is_exported or self.export_rule is not None


class Obituaries:
    """Gives each worker its berth before the fork and writes what is left open in it afterwards.

    Args:
        settings: the operator's choice.
        ledger: gives out places.
        emit: writes an event.
        report_death: told of each dead request, for what is exported.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: PoolLedger,
        emit: Callable[[CanonicalEvent], None],
        report_death: Callable[[Death], None],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._rule = ExportRule(settings)
        self._emit = emit
        self._report_death = report_death
        self._certificates = DeathCertificates()
        self._berths: dict[int, Berth | None] = {}

    def reconfigure(self, settings: Settings, emit: Callable[[CanonicalEvent], None]) -> None:
        """Take over the configuration of a reload."""
        self._settings = settings
        self._rule = ExportRule(settings)
        self._emit = emit

    def assign(self, worker: Any) -> Berth | None:
        """Return the berth of a worker that is about to be forked; None if there is no room."""
        place = self._ledger.open_place()
        berth: Berth | None = None
        if place is None:
            warn("more workers than the shared page has room for; some have no `lost` lines")
        else:
            stacks = stack_recorder.make_file()
            berth = Berth(place.page, place.block, place.number, stacks)
        # By the worker's age: it has no pid yet, and an age is never given twice.
        self._berths[worker.age] = berth
        return berth

    def pids(self, workers: Iterable[Any]) -> dict[int, int]:
        """Return the pids of workers by their numbers in the pool."""
        found: dict[int, int] = {}
        # Copied: in Gunicorn 23 a signal handler takes the dead from among them.
        for worker in list(workers):
            berth = self._berths.get(worker.age)
            if berth is not None:
                found[berth.number] = worker.pid
        return found

    def leave_to(self, worker: Any | None) -> None:
        """Close what belongs to workers other than this one (in a child of the arbiter)."""
        kept = None if worker is None else worker.age
        for age, berth in self._berths.items():
            if age != kept and berth is not None and berth.stacks is not None:
                with contextlib.suppress(OSError):
                    os.close(berth.stacks)
        self._berths.clear()

    def note_signal(self, pid: int, number: int) -> None:
        """Note a signal that Gunicorn is about to send to a worker."""
        self._certificates.note_signal(pid, number)

    def note_status(self, pid: int, status: int) -> None:
        """Note how a child of the arbiter has died, if it was a worker of ours."""
        self._certificates.note_status(pid, status)

    def bury(self, worker: Any) -> None:
        """Write the lines of the requests that a dead worker left open, and take its berth back."""
        if worker.age not in self._berths:
            return
        berth = self._berths.pop(worker.age)
        is_timeout = self._certificates.is_timeout(worker.pid)
        # Once for all of its requests: to ask for the cause is to use an OOM kill of the kernel's up.
        cause = self._certificates.cause(worker.pid)
        try:
            if berth is not None:
                left_open = self._left_open(berth)
                # Without the watchdog's look, of several requests that share a thread it is not
                # known which one a dumped stack belongs to.
                is_certain = berth.page.is_bounded or len(left_open) == 1
                for request in left_open:
                    with Fence("writing the line of a request that died"):
                        self._write(
                            worker.pid,
                            request,
                            berth,
                            "" if is_timeout else cause,
                            is_certain=is_certain,
                        )
        finally:
            self._certificates.forget(worker.pid)
            self._ledger.close_place(berth, "timeout" if is_timeout else cause)
            if berth is not None and berth.stacks is not None:
                os.close(berth.stacks)

    def bury_all(self, workers: Iterable[Any]) -> None:
        """Bury the workers that Gunicorn has killed at its own end without waiting for them."""
        deadline = time.monotonic() + LAST_DEATHS_S
        for worker in list(workers):
            while not self._certificates.is_dead(worker.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            self.bury(worker)

    def _left_open(self, berth: Berth) -> list[OpenRequest]:
        # CLOSING: the worker died between two system calls, around the one that wrote the line.
        return [
            request
            for slot in berth.page.slots_of(berth.block)
            if slot.state() != CLOSING and (request := slot.read()) is not None
        ]

    def _write(
        self, pid: int, request: OpenRequest, berth: Berth, lost_cause: str, *, is_certain: bool
    ) -> None:
        """Write the line of one request; with no `lost_cause` it is a timeout.

        `is_certain` says whether a dumped stack must be its own.
        """
        ended_ns = time.monotonic_ns()
        is_timeout = not lost_cause
        location, stack = _last_seen(request, berth if is_certain else None)
        kind = EventType.TIMEOUT if is_timeout else EventType.LOST
        rule = None
        if request.is_exported or request.is_kept:
            rule = self._rule.reason_of_death(kind, ended_ns - request.started_ns)
        pairs: list[tuple[str, FieldValue]] = [
            ("event_type", kind.value),
            ("ts", timestamp()),
            *_request_pairs(request, is_exported=request.is_exported or rule is not None),
            ("resp_time", seconds(ended_ns - request.started_ns)),
        ]
        if location is not None:
            prefix = "timeout" if is_timeout else "lost"
            pairs.append((f"{prefix}_loc", location.loc))
            pairs.append((f"{prefix}_cause_loc", location.cause_loc))
        if is_timeout and request.watched.get("after_s"):
            pairs.append(("timeout_seen", float(request.watched["after_s"])))
        if not is_timeout:
            pairs.append(("lost_cause", lost_cause))
        if request.queries:
            pairs.append(("db_queries", request.queries))
        row, values = pool_row(berth.page.pool_state(ended_ns))
        pairs += row.pairs(values)
        pairs.append(("g_pid", pid))
        event = CanonicalEvent.of_pairs(kind, without_excluded(pairs, self._settings), stack)
        self._emit(event)
        self._report_death(Death(event, request, ended_ns, rule))


def _request_pairs(request: OpenRequest, *, is_exported: bool) -> list[tuple[str, FieldValue]]:
    texts = request.texts
    pairs: list[tuple[str, FieldValue]] = []
    if texts.get("request_id"):
        pairs.append(("req_id", texts["request_id"]))
    if texts.get("trace_id"):
        pairs.append(("trace_id", texts["trace_id"]))
        pairs.append(("span_id", texts["span_id"]))
        pairs.append(("sampled", is_exported))
    for key, name in (
        ("req_method", "method"),
        ("req_path", "path"),
        ("req_host", "host"),
        ("req_route", "route"),
        ("req_client", "client"),
        ("resp_view", "view"),
    ):
        if texts.get(name):
            pairs.append((key, texts[name]))
    return pairs


def _last_seen(request: OpenRequest, berth: Berth | None) -> tuple[StackLocation | None, str]:
    """Return where the request was last seen: by the crash handler, else by the watchdog."""
    stacks: dict[int, list[stack_location.Frame]] = {}
    if berth is not None and berth.stacks is not None:
        stacks = stack_recorder.read_stacks(berth.stacks)
    frames = stacks.get(request.thread_id) or stacks.get(0)
    located = stack_location.of_stack(frames) if frames else None
    watched = request.watched
    if watched.get("loc"):
        seen = StackLocation(watched["loc"], watched.get("cause_loc") or watched["loc"])
        # The watchdog's look was at the deadline, which is what a timeout's location means.
        return seen, stack_recorder.as_text(frames or [])
    return located, stack_recorder.as_text(frames or [])
