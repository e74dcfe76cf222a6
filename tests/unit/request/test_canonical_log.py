"""CanonicalLog: opening and closing requests, whatever the app's code does in between."""

from __future__ import annotations

import contextvars
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult

from otel_canonical.event.event import CanonicalEvent, EventType, timestamp
from otel_canonical.event.line_writer import LineWriter
from otel_canonical.event.output import LineOutput
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.pool.place import Place
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.request import canonical_log
from otel_canonical.request.always_export import AlwaysExport
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.deferred_signals import DeferredSignals
from otel_canonical.request.progress import Outputs
from otel_canonical.request.query_tally import QueryTally
from otel_canonical.request.scope import RequestScope, StackSample, current_scope
from otel_canonical.settings import Settings
from otel_canonical.stacks import errors
from tests.support.canonical_logs import a_log, into, opened


@pytest.fixture
def events() -> list[CanonicalEvent]:
    """What was emitted."""
    return []


@pytest.fixture
def exported() -> InMemorySpanExporter:
    """What was exported."""
    return InMemorySpanExporter()


def test_signals_are_heard_while_the_app_adds_its_facts(
    events: list[CanonicalEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An enricher may hang; a worker that is told to end by then ends, behind the whole line."""
    signals = DeferredSignals()
    held: list[bool] = []

    def enrich(scope: RequestScope) -> None:
        held.append(signals.are_deferred)
        raise SystemExit(0)

    monkeypatch.setattr(canonical_log, "readers", [enrich])
    log = a_log(events, signals=signals)
    scope = opened(log)
    with pytest.raises(SystemExit):
        log.close(scope)
    assert held == [False]
    assert not signals.are_deferred
    assert [dict(event.pairs)["resp_status"] for event in events] == [200]


def test_signals_wait_while_a_request_is_opened_and_while_its_line_is_written(
    events: list[CanonicalEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the moment in which the request is claimed, but for the app's own code."""
    signals = DeferredSignals()
    held: list[tuple[str, bool]] = []

    def noting(moment: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **options: Any) -> Any:
            held.append((moment, signals.are_deferred))
            return function(*arguments, **options)

        return noted

    log = a_log(events, signals=signals)
    monkeypatch.setattr(log._root_factory, "open", noting("open", log._root_factory.open))
    monkeypatch.setattr(RequestScope, "claim", noting("claim", RequestScope.claim))
    monkeypatch.setattr(canonical_log, "readers", [noting("reader", lambda scope: None)])
    monkeypatch.setattr(log, "_write", noting("write", log._write))
    scope = opened(log)
    held.append(("view", signals.are_deferred))
    log.close(scope)
    held.append(("next", signals.are_deferred))
    assert held == [
        *(("open", True), ("view", False), ("claim", True), ("reader", False), ("write", True)),
        ("next", False),
    ]


class _Fails(Sampler):
    def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:
        raise ValueError("not today")

    def get_description(self) -> str:
        return "fails"


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production: what fails is reported, not raised."""
    monkeypatch.setenv("OTEL_CANONICAL_STRICT", "0")


def test_line_is_written_when_the_sampler_fails(
    events: list[CanonicalEvent], exported: InMemorySpanExporter, lenient: None
) -> None:
    """The line does not depend on the sampler."""
    log = a_log(events, exporter=exported, sampler=_Fails())
    log.close(opened(log))
    assert [dict(event.pairs)["sampled"] for event in events] == [False]


@pytest.mark.parametrize("exports", [False, True])
def test_nothing_is_left_for_the_garbage_collector(
    exports: bool, events: list[CanonicalEvent], exported: InMemorySpanExporter
) -> None:
    """A request's scope and span are gone when it is, also where Python collects no garbage."""
    log = a_log(events, exporter=exported if exports else None)
    gc.collect()
    gc.disable()
    try:
        scope = opened(log)
        left = [weakref.ref(scope)]
        if exports:
            left.append(weakref.ref(scope.root.span))
        log.close(scope)
        events.clear()
        exported.clear()
        del scope
        assert [kept() for kept in left] == [None] * len(left)
    finally:
        gc.enable()


def test_other_request_of_the_context_stays_when_a_forgotten_one_is_closed(
    events: list[CanonicalEvent],
) -> None:
    """A coroutine that is collected as garbage is closed wherever the collector happens to run."""
    log = a_log(events)
    forgotten = contextvars.copy_context().run(opened, log)
    forgotten.root.abandon()
    current = opened(log)
    log.close(forgotten)
    assert current_scope.get() is current
    log.close(current)
    assert current_scope.get() is None


@pytest.mark.parametrize(
    ("sent", "read"),
    [("17", 17), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("9" * 5000, None), ("x", None)],
)
def test_content_length_that_is_no_number_of_bytes(
    sent: str, read: int | None, events: list[CanonicalEvent]
) -> None:
    """Python refuses numbers of thousands of digits; a client may send them."""
    log = a_log(events)
    scope = opened(log, CONTENT_LENGTH=sent)
    log.close(scope)
    assert dict(events[0].pairs).get("req_bytes") == read


@pytest.mark.parametrize(
    ("host", "port"),
    [("a:8000", 8000), ("a", None), ("8000", None), ("[::1]", None), ("a:" + "9" * 5000, None)],
)
def test_server_port_is_that_of_the_host(
    host: str,
    port: int | None,
    events: list[CanonicalEvent],
    exported: InMemorySpanExporter,
) -> None:
    """Whatever a client sends for a port, the span leaves."""
    log = a_log(events, exporter=exported)
    log.close(opened(log, HOST=host))
    [span] = exported.get_finished_spans()
    assert (span.attributes or {}).get("server.port") == port


def test_span_of_a_request_that_is_not_exported_can_be_shown(events: list[CanonicalEvent]) -> None:
    """`repr` is what debuggers and error reporters ask of everything."""
    log = a_log(events)
    scope = opened(log)
    assert scope.root.span_id in repr(scope.root.span)
    log.close(scope)


def test_root_has_ids_of_its_own_when_its_tracer_is_switched_off(
    events: list[CanonicalEvent], exported: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK hands the caller's span back then."""
    monkeypatch.setattr("opentelemetry.sdk.trace.Tracer._is_enabled", lambda self: False)
    log = a_log(events, exporter=exported)
    scope = opened(log, TRACEPARENT=f"00-{7:032x}-{8:016x}-01")
    assert (int(scope.root.trace_id, 16), scope.root.is_exported) == (7, False)
    assert int(scope.root.span_id, 16) not in (0, 8)
    log.close(scope)


def test_stack_of_an_exception_outlasts_a_slow_line(events: list[CanonicalEvent]) -> None:
    """A request that raised, was slow to answer, and ended: the last event has the stack, too."""
    log = a_log(events)
    scope = opened(log)
    try:
        raise ValueError("first")
    except ValueError as error:
        scope.error = errors.of_error(error)
    log.slow(scope)
    log.close(scope)
    assert ["ValueError: first" in str(e.attributes()["exception.stacktrace"]) for e in events] == [
        *(True, True),
    ]
    assert scope.error is not None
    assert scope.error.raised is None


def test_slow_line_is_poor_when_its_event_cannot_be_composed(
    events: list[CanonicalEvent], lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that can be looked for are better than no line."""
    log = a_log(events)
    scope = opened(log)
    with monkeypatch.context() as failing:
        failing.setattr(log._composer, "request_event", lambda *_: {}["fact"])
        log.slow(scope)
    log.close(scope)
    slow, whole = (dict(event.pairs) for event in events)
    assert (slow["event_type"], slow["req_id"]) == ("slow", scope.request_id)
    assert (whole["event_type"], whole["resp_status"]) == ("request", 200)


def test_request_that_is_over_writes_nothing_into_the_next_ones_slot(
    events: list[CanonicalEvent],
) -> None:
    """A thread that it has left behind still queries, the watchdog has looked at it just before."""
    scoreboard = Scoreboard(1, 1)
    place = Place(scoreboard, scoreboard.take_block() or 0, 0)
    log = a_log(events, place=place)
    former = opened(log)
    [slot] = place.slots()
    former.add_query("SELECT 1", 1, failed=False)
    former.stuck = StackSample(former.started_ns, "a.py:1:f", "b.py:2:g", "")
    log.close(former)
    current = opened(log)
    former.add_query("SELECT 1", 1, failed=False)
    former.route = "former/"
    log.due(former)
    log.progress(former)
    shown = slot.read()
    assert shown is not None
    assert (shown.queries, shown.watched, shown.texts.get("route")) == (0, {}, None)
    assert former.queries is not None
    assert former.queries.count == 1
    current.add_query("SELECT 1", 1, failed=False)
    log.progress(current)
    shown = slot.read()
    assert shown is not None
    assert (shown.queries, shown.texts["path"]) == (1, "/ok/")
    log.close(current)


def test_first_queries_of_two_threads_are_both_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One ends while the other makes the tally."""
    scope = RequestScope("GET", "/", {})

    class Made(QueryTally):
        def __init__(self) -> None:
            super().__init__()
            monkeypatch.undo()
            scope.add_query("SELECT 1", 1, failed=False)

    monkeypatch.setattr("otel_canonical.request.scope.QueryTally", Made)
    scope.add_query("SELECT 2", 1, failed=False)
    assert scope.queries is not None
    assert scope.queries.count == 2


def test_line_is_written_when_a_value_is_of_another_type(
    events: list[CanonicalEvent], lenient: None, tmp_path: Path
) -> None:
    """A row's quick way can't write it; the other way can."""
    log = a_log(events)
    scope = opened(log)
    scope.status, scope.bytes_written = "200", 0  # type: ignore[assignment]
    scope.first_byte_ns = scope.started_ns
    log.close(scope)
    output = LineOutput(str(tmp_path / "lines"))
    LineWriter(output, "logfmt", 4096).emit(events[0])
    assert " resp_status=200 " in (tmp_path / "lines").read_text()


def test_lost_requests_are_exported_for_that_reason() -> None:
    """Also where the worker itself says that they are lost."""
    scope = RequestScope("GET", "/ok/", {})
    for chosen, reason in [("lost", "lost"), ("errors,lost", "lost"), ("errors", "error")]:
        rule = AlwaysExport(Settings(always_export=frozenset(chosen.split(","))))
        assert rule.reason(scope, EventType.LOST) == reason


def test_line_is_written_when_app_ends_itself_while_its_request_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SystemExit out of a signal handler that the app has, in our own code: a poor line, and on."""
    events: list[CanonicalEvent] = []

    def quit_here(scope: RequestScope) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("otel_canonical.request.canonical_log.readers", [quit_here])
    log = CanonicalLog(Settings(), RootFactory(None, str), into(events))
    scope = log.open("GET", "/ok/", {"X-REQUEST-ID": "the-last"})
    assert scope is not None
    scope.status = 200
    with pytest.raises(SystemExit):
        log.close(scope)
    [event] = events
    pairs = dict(event.pairs)
    assert (pairs["event_type"], pairs["req_id"], pairs["resp_status"]) == (
        *("request", "the-last"),
        200,
    )
    assert not log.in_flight


def test_event_knows_the_moment_that_its_line_shows(events: list[CanonicalEvent]) -> None:
    """So that its log event is of the same."""
    log = a_log(events)
    log.close(opened(log))
    [event] = events
    assert event.made_wall_ns is not None
    assert dict(event.pairs)["ts"] == timestamp(event.made_wall_ns)


#: As a sample has it, the innermost frame last.
STACK = '  File "a.py", line 1, in f\n  File "b.py", line 2, in g\n'


@pytest.mark.parametrize("is_stuck", [False, True])
def test_slow_event_has_where_it_was_seen(events: list[CanonicalEvent], is_stuck: bool) -> None:
    """Whether or not the deadline has been seen as well; its stack leaves with the event."""
    log = a_log(events)
    scope = opened(log)
    scope.slow = StackSample(scope.started_ns + 2 * 10**9, "a.py:1:f", "b.py:2:g", STACK)
    if is_stuck:
        scope.stuck = StackSample(
            scope.started_ns + 10**9, "c.py:3:h", "d.py:4:i", "an earlier one"
        )
    log.slow(scope)
    [event] = events
    facts = dict(event.pairs)
    assert (facts["slow_loc"], facts["slow_cause_loc"]) == ("a.py:1:f", "b.py:2:g")
    assert facts["slow_stack"] == "b.py:2:g < a.py:1:f"
    assert facts.get("timeout_loc") == ("c.py:3:h" if is_stuck else None)
    assert facts.get("timeout_seen") == (1.0 if is_stuck else None)
    assert event.attributes()["code.stacktrace"] == ("an earlier one" if is_stuck else STACK)
    log.close(scope)


def test_signals_wait_while_the_line_of_an_interrupted_request_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One more would interrupt it again."""
    signals = DeferredSignals()
    deferred: list[bool] = []

    def quit_here(scope: RequestScope) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("otel_canonical.request.canonical_log.readers", [quit_here])
    outputs = Outputs(
        lambda event: b"", lambda event, line, slot: deferred.append(signals.are_deferred)
    )
    log = CanonicalLog(Settings(), RootFactory(None, str), outputs, signals=signals)
    scope = opened(log)
    with pytest.raises(SystemExit):
        log.close(scope)
    assert deferred == [True]
    assert not signals.are_deferred


@pytest.mark.parametrize("place", ["loc", "cause_loc", "template", "message"])
def test_what_is_not_known_of_an_error_is_left_out(
    place: str, events: list[CanonicalEvent]
) -> None:
    """And the rest is shown."""
    facts = {"loc": "a.py:1:f", "cause_loc": "b.py:2:g", "template": "p.html:3", "message": "no"}
    facts[place] = "" if place == "message" else None  # type: ignore[assignment]
    log = a_log(events)
    scope = opened(log)
    scope.error = errors.ErrorFacts(type="ValueError", **facts)  # type: ignore[arg-type]
    log.close(scope)
    [event] = events
    names = {"message": "exc_msg"}
    wanted = {names.get(name, f"exc_{name}"): value for name, value in facts.items() if value}
    shown = {key: value for key, value in event.pairs if key.startswith("exc_")}
    assert shown == {"exc_type": "ValueError", **wanted}


def test_place_that_may_not_be_named_is_left_out(events: list[CanonicalEvent]) -> None:
    """While the server writes there is a cause, and no location."""
    log = a_log(events)
    scope = opened(log)
    scope.slow = scope.stuck = StackSample(scope.started_ns, None, "writing to the client", "")
    log.close(scope)
    facts = dict(events[0].pairs)
    assert facts["slow_cause_loc"] == facts["timeout_cause_loc"] == "writing to the client"
    assert facts["deadline_exceeded"] is True
    assert not {"slow_loc", "timeout_loc", "slow_stack"} & facts.keys()


def test_first_to_close_a_request_is_told_so(events: list[CanonicalEvent]) -> None:
    """Whoever comes later has written nothing."""
    log = a_log(events)
    scope = opened(log)
    assert (log.close(scope), log.close(scope)) == (True, False)
    assert len(events) == 1
