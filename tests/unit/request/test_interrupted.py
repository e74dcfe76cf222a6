"""Time limits of the app's: a signal handler raises in any line of ours, and the line is written all the same."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel_context

import otel_canonical
from otel_canonical.event.event import CanonicalEvent
from otel_canonical.event.line_writer import LineWriter
from otel_canonical.event.output import LineOutput
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.pool.ledger import Place
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.pool.slots import IDLE, OPEN
from otel_canonical.process.interruptions import is_interruption
from otel_canonical.request import canonical_log, random_digits, time_facts
from otel_canonical.request.app_facts import read_enrichers
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.progress import Outputs
from otel_canonical.request.scope import RequestScope, current_scope
from otel_canonical.settings import Settings
from tests.support.alarms import Alarm, TimeIsUp


@pytest.fixture(autouse=True)
def no_context_is_left_to_other_tests() -> Iterator[None]:
    """Restore the context: an alarm may ring behind attaching a root's, before that is noted."""
    token = otel_context.attach(otel_context.get_current())
    yield
    otel_context.detach(token)


class Site:
    """A log with one slot, that writes into a file."""

    def __init__(self, directory: Path) -> None:
        scoreboard = Scoreboard(1, 1)
        self.place = Place(scoreboard, scoreboard.take_block() or 0, 0)
        self.path = directory / "lines"
        self.writer = LineWriter(LineOutput(str(self.path)), "logfmt", 4096)
        outputs = Outputs(self.writer.encode, self.writer.write)
        self.log = CanonicalLog(Settings(), RootFactory(None, str), outputs, self.place)

    def lines(self) -> list[str]:
        """Return the lines so far."""
        return self.path.read_text().splitlines()

    def shows_a_request(self) -> bool:
        """Return whether the arbiter sees a request while it is open, and sees none behind it."""
        scope = self.log.open("GET", "/shown/", {})
        assert scope is not None
        states = [slot.state() for slot in self.place.slots()]
        self.log.close(scope)
        return [*states, *[slot.state() for slot in self.place.slots()]] == [OPEN, IDLE]

    def serve(self, alarm: Callable[..., Any]) -> list[BaseException]:
        """Serve one request as Gunicorn does; return what came out of our calls."""
        raised: list[BaseException] = []

        def calls(function: Callable[[], object]) -> Iterator[None]:
            try:
                function()
            except BaseException as error:  # noqa: BLE001  # anything that the alarm may raise
                raised.append(error)
            yield

        def call(function: Callable[[], object]) -> None:
            # Raised by a trace function at the beginning of an `except`, the exception there stays the
            # thread's current one. A generator has one of its own.
            next(iter(calls(function)))

        tracing = sys.gettrace()
        sys.settrace(alarm)
        try:
            call(lambda: self.log.open("GET", "/limited/", {"HOST": "localhost"}))
            if current_scope.get() is None:
                # `handle_error` opens a request whose opening has failed.
                call(lambda: self.log.open("GET", "/limited/", {"HOST": "localhost"}))
            scope = current_scope.get()
            assert scope is not None
            scope.status, scope.bytes_written = 200, 2
            scope.first_byte_ns = scope.started_ns
            call(lambda: otel_canonical.set("plan", "pro"))
            call(lambda: self.log.close(scope))
            # `handle` closes whatever is still open.
            call(lambda: self.log.close(scope))
        finally:
            sys.settrace(tracing)
        return raised


@pytest.fixture(autouse=True)
def _does_each_time_what_is_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else some requests run a few lines more than others, and a place would be counted twice."""
    monkeypatch.setattr(canonical_log, "SELDOM_NS", -1)
    monkeypatch.setattr(time_facts, "LONG_NS", 0)
    monkeypatch.setattr(random_digits, "REQUESTS", 1)
    random_digits.random_digits.forget()


@pytest.mark.parametrize("kind", [TimeIsUp, TimeoutError])
def test_app_gets_its_exception_and_the_line_is_whole(
    kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of our lines is running: none swallows it, and the request has its one line."""
    monkeypatch.setenv("OTEL_CANONICAL_STRICT", "0")
    site = Site(tmp_path)
    site.serve(Alarm(0, kind))  # imports and caches
    at, written = 0, 1
    lost: list[str] = []
    while True:
        at += 1
        alarm = Alarm(at, kind)
        raised = site.serve(alarm)
        if not alarm.where:
            break
        assert [type(error) for error in raised] == [kind], alarm.where
        assert not site.log.in_flight, alarm.where
        # Else a later request would not be shown, and not be missed when its worker is killed.
        assert site.shows_a_request(), alarm.where
        lines = [line for line in site.lines() if "/shown/" not in line]
        if len(lines) == written:
            lost.append(alarm.where)
        else:
            assert len(lines) == written + 1, alarm.where
            assert " resp_status=200 " in lines[-1], lines[-1]
        written = len(lines)
    assert at > 300
    # Between the mark on the slot and the return of the system call it can't be known.
    assert len(lost) <= 10, lost


def test_handlers_are_told_from_other_code() -> None:
    """By how they were called: with a number and the frame that they interrupt."""

    def handler(number: int, frame: object) -> None:
        raise TimeIsUp

    def any_arguments(*arguments: object) -> None:
        raise TimeIsUp

    def called_with_a_frame(frame: object) -> None:
        raise TimeIsUp

    def kind_of(call: Callable[[], None]) -> bool:
        try:
            call()
        except TimeIsUp as error:
            return is_interruption(error)
        raise AssertionError

    def by_signal(handle: Callable[..., None]) -> Callable[[], None]:
        def call() -> None:
            before = signal.signal(signal.SIGUSR2, handle)
            try:
                signal.raise_signal(signal.SIGUSR2)
            finally:
                signal.signal(signal.SIGUSR2, before)

        return call

    assert kind_of(by_signal(handler))
    assert kind_of(by_signal(any_arguments))
    assert not kind_of(lambda: handler(14, None))
    assert not kind_of(lambda: called_with_a_frame(sys._getframe()))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, ValueError])
def test_callback_that_ends_the_process_loses_its_own_facts_only(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does a value whose `__str__` raises; the callbacks behind it are asked."""
    monkeypatch.setenv("OTEL_CANONICAL_STRICT", "0")
    monkeypatch.setattr("signal.getsignal", lambda number: signal.SIG_IGN)
    events: list[CanonicalEvent] = []

    class Hostile:
        def __str__(self) -> str:
            raise kind(4)

    def fails(request: object, response: object) -> dict[str, object]:
        raise kind(4)

    callbacks = [
        ("asking fails", fails),
        ("asking hostile", lambda request, response: {"hostile": Hostile(), "good": 1}),
        ("asking better", lambda request, response: {"better": 2}),
    ]
    monkeypatch.setattr("otel_canonical.request.app_facts._enrichers", callbacks)
    monkeypatch.setattr(canonical_log, "readers", [read_enrichers])
    outputs = Outputs(lambda event: b"", lambda event, line, slot: events.append(event))
    log = CanonicalLog(Settings(), RootFactory(None, str), outputs)
    scope = log.open("GET", "/", {})
    assert scope is not None
    otel_canonical.set("set", Hostile())
    log.close(scope)
    facts = dict(events[0].pairs)
    shown = {key: facts[key] for key in facts if key.startswith("app_")}
    assert shown == {"app_set": "!err", "app_hostile": "!err", "app_good": 1, "app_better": 2}


def test_worker_that_is_told_to_leave_in_a_callback_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gunicorn's own SystemExit comes out of a signal handler; the line is written before it."""
    monkeypatch.setenv("OTEL_CANONICAL_STRICT", "0")
    events: list[CanonicalEvent] = []

    def handle_quit(number: int, frame: object) -> None:
        sys.exit(0)

    def told_to_leave(scope: RequestScope) -> None:
        before = signal.signal(signal.SIGUSR2, handle_quit)
        try:
            signal.raise_signal(signal.SIGUSR2)
        finally:
            signal.signal(signal.SIGUSR2, before)

    monkeypatch.setattr(canonical_log, "readers", [told_to_leave])
    outputs = Outputs(lambda event: b"", lambda event, line, slot: events.append(event))
    log = CanonicalLog(Settings(), RootFactory(None, str), outputs)
    scope = log.open("GET", "/", {})
    assert scope is not None
    with pytest.raises(SystemExit):
        log.close(scope)
    assert [event.event_type.value for event in events] == ["request"]
