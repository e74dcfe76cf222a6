"""What CanonicalLog shows of a request when it is opened, and what is left when it is closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.pool.counters import UNSHOWN
from otel_canonical.pool.place import Place
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.process.resident import resident_memory
from otel_canonical.process.run_queue import run_queue
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.deferred_signals import DeferredSignals
from otel_canonical.request.progress import Outputs
from otel_canonical.request.scope import current_scope
from otel_canonical.settings import Settings
from tests.support.canonical_logs import a_log, opened


@pytest.fixture
def events() -> list[CanonicalEvent]:
    """What was emitted."""
    return []


@pytest.mark.parametrize(("interruptions", "is_whole"), [(1, True), (2, True), (3, False)])
def test_interrupted_line_is_tried_again_before_it_is_a_poor_one(
    interruptions: int,
    is_whole: bool,
    events: list[CanonicalEvent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal handler of the app's raises again and again; the last try shows status and ids."""
    log = a_log(events)
    scope = opened(log)
    compose = log._composer.request_event
    left = [SystemExit(7)] * interruptions

    def interrupted(*arguments: Any) -> CanonicalEvent:
        if left:
            raise left.pop()
        return compose(*arguments)

    monkeypatch.setattr(log._composer, "request_event", interrupted)
    with pytest.raises(SystemExit):
        log.close(scope)
    [event] = events
    facts = dict(event.pairs)
    assert (facts["resp_status"], facts["req_id"]) == (200, scope.request_id)
    assert ("req_path" in facts) is is_whole
    assert not log.in_flight


def test_signal_that_comes_while_a_request_is_opened_is_delivered_behind_it(
    events: list[CanonicalEvent],
) -> None:
    """And so is one that comes while a line is written."""
    signals = DeferredSignals()
    log = a_log(events, signals=signals)
    heard: list[bool] = []
    signals.waiting = lambda: heard.append(signals.are_deferred)
    scope = opened(log)
    assert (heard, signals.waiting) == ([False], None)
    signals.waiting = lambda: heard.append(signals.are_deferred)
    log.close(scope)
    assert (heard, signals.waiting) == ([False, False], None)


def test_unshown_request_is_served_and_counted(events: list[CanonicalEvent]) -> None:
    """More requests at once than the worker has slots; a slot that is free again is used again."""
    scoreboard = Scoreboard(1, 1)
    place = Place(scoreboard, scoreboard.take_block() or 0, 0)
    log = a_log(events, place=place)
    first, second = opened(log), opened(log)
    assert first.slot is not None
    assert second.slot is None
    assert place.counts()[UNSHOWN] == 1
    slot = first.slot
    log.close(first)
    third = opened(log)
    assert third.slot is slot
    assert place.counts()[UNSHOWN] == 1
    for scope in (second, third):
        log.close(scope)
    assert scoreboard.counters.active.tolist() == [0]


def test_slot_has_what_is_known_when_a_request_is_opened(events: list[CanonicalEvent]) -> None:
    """Ids where they name something, the peer, the host; a token in the path is hidden."""
    scoreboard = Scoreboard(1, 2)
    place = Place(scoreboard, scoreboard.take_block() or 0, 0)
    log = a_log(events, place=place)
    caller = f"00-{7:032x}-{8:016x}-01"
    headers = {"HOST": "shop:8000", "TRACEPARENT": caller, "X-REQUEST-ID": "mine"}
    called = log.open("POST", "/a/eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.sig/", headers, "1.2.3.4")
    plain = log.open("GET", "/b/", {})
    assert called is not None
    assert plain is not None
    shown = [slot.read() for slot in place.slots()]
    texts = [request.texts if request is not None else {} for request in shown]
    assert texts[0] == {
        "request_id": "mine",
        "trace_id": f"{7:032x}",
        "span_id": called.root.span_id,
        "caller_span_id": f"{8:016x}",
        "method": "POST",
        "host": "shop",
        "client": "1.2.3.4",
        "path": "/a/[redacted]/",
    }
    empty = dict.fromkeys(("trace_id", "span_id", "caller_span_id", "host", "client"), "")
    assert texts[1] == {**empty, "request_id": plain.request_id, "method": "GET", "path": "/b/"}
    for scope in (plain, called):
        log.close(scope)


def test_nothing_can_be_switched_without_a_scoreboard(events: list[CanonicalEvent]) -> None:
    """In tests of an app."""
    log = a_log(events)
    noticed: list[int] = []
    log.on_switch = lambda: noticed.append(1)
    log.close(opened(log))
    assert noticed == []


def test_switch_is_noticed_once(events: list[CanonicalEvent]) -> None:
    """At the beginning of the next request."""
    scoreboard = Scoreboard(1, 2)
    log = a_log(events, place=Place(scoreboard, scoreboard.take_block() or 0, 0))
    noticed: list[int] = []
    log.on_switch = lambda: noticed.append(1)
    for change, count in ((False, 0), (True, 1), (False, 1), (True, 2)):
        if change:
            scoreboard.write_switches({"slow_seconds": ["1", None]})
        log.close(opened(log))
        assert len(noticed) == count


@pytest.mark.parametrize(
    ("is_aborted", "lost_cause", "event_type"),
    [
        (False, None, "request"),
        (True, None, "timeout"),
        (False, "shutdown", "lost"),
        (True, "shutdown", "timeout"),
    ],
)
def test_line_is_of_the_kind_that_the_request_ended_in(
    is_aborted: bool, lost_cause: str | None, event_type: str, events: list[CanonicalEvent]
) -> None:
    """Answered, aborted, or given up."""
    log = a_log(events)
    scope = opened(log)
    scope.is_aborted, scope.lost_cause = is_aborted, lost_cause
    log.close(scope)
    assert dict(events[0].pairs)["event_type"] == event_type


def test_pool_is_seen_with_the_request_itself(events: list[CanonicalEvent]) -> None:
    """Its own slot is still open then."""
    scoreboard = Scoreboard(2, 2)
    log = a_log(events, place=Place(scoreboard, scoreboard.take_block() or 0, 0))
    log.close(opened(log))
    facts = dict(events[0].pairs)
    assert (facts["g_w_count"], facts["g_w_active"], facts["g_t_count"], facts["g_t_active"]) == (
        *(1, 1, 2),
        1,
    )
    assert scoreboard.pool_state(0).active_slots == 0


def test_request_that_is_left_later_stays_current_until_then(events: list[CanonicalEvent]) -> None:
    """A background task of an ASGI application runs behind its request's line."""
    log = a_log(events)
    scope = opened(log)
    scope.is_left_later = True
    log.close(scope)
    assert current_scope.get() is scope
    log.leave(scope)
    assert current_scope.get() is None
    other = opened(log)
    log.leave(scope)
    assert current_scope.get() is other
    log.close(other)


def test_memory_is_looked_at_anew_after_a_request(
    events: list[CanonicalEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen before it is not what there is behind it."""
    log = a_log(events)
    scope = opened(log)
    # Of a long one the memory is looked at behind its end.
    scope.ended_ns = scope.started_ns
    monkeypatch.setattr(resident_memory, "is_current", True)
    log.close(scope)
    assert not resident_memory.is_current


@pytest.mark.parametrize("times_cpu", [True, False])
def test_cpu_time_is_known_where_a_thread_serves_one_request(
    times_cpu: bool, events: list[CanonicalEvent]
) -> None:
    """If the thread itself closes it; another thread's time is not the request's."""
    outputs = Outputs(lambda event: b"", lambda event, line, slot: events.append(event))
    log = CanonicalLog(Settings(), RootFactory(None, str), outputs, times_cpu=times_cpu)
    log.close(opened(log))
    measured = opened(log)
    measured.started_ns -= 1_000_000_000
    measured.ended_cpu_ns = measured.started_cpu_ns + 5_000_000
    log.close(measured)
    given_up = opened(log)
    given_up.thread_id += 1  # as if another thread had served it
    log.close(given_up)
    shown = [dict(event.pairs).get("resp_cpu_time") for event in events]
    assert [time is not None for time in shown] == [times_cpu, True, False]
    assert shown[1] == 0.005


@pytest.mark.parametrize("is_known", [True, False])
def test_wait_for_a_cpu_is_read_again_at_the_end_where_it_can_be(
    is_known: bool, events: list[CanonicalEvent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file of the thread that has served the request, if it is still open."""
    log = a_log(events)
    scope = opened(log)
    statistics = tmp_path / "schedstat"
    statistics.write_bytes(b"1 2 3\n")
    with statistics.open("rb") as file:
        files = {scope.thread_id: file.fileno()} if is_known else {}
        monkeypatch.setattr(run_queue, "files", files)
        scope.waited = b"1 1 3\n"
        log.close(scope)
    assert scope.ended_waited == (b"1 2 3\n" if is_known else None)
    assert scope.ended_cpu_ns is not None


@pytest.mark.parametrize(("seen_ago_s", "is_fresh"), [(4, True), (6, False)])
def test_backlog_of_the_pool_is_that_of_the_requests_end(
    seen_ago_s: int, is_fresh: bool, events: list[CanonicalEvent]
) -> None:
    """One that was fresh when a long request began is not when it has ended."""
    scoreboard = Scoreboard(1, 2)
    log = a_log(events, place=Place(scoreboard, scoreboard.take_block() or 0, 0))
    scope = opened(log)
    scope.ended_ns = scope.started_ns + 3_000_000_000
    scoreboard.set_backlog(7, scope.ended_ns - seen_ago_s * 1_000_000_000)
    log.close(scope)
    assert dict(events[0].pairs).get("g_backlog") == (7 if is_fresh else None)
