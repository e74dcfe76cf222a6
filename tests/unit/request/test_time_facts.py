"""What a line says of a request's time: exact sums, nothing negative, nothing that isn't known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from otel_canonical.event.event import EventType
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.event.rows import FilledRow
from otel_canonical.process.garbage import collections
from otel_canonical.process.resident import resident_memory
from otel_canonical.request import process_facts, time_facts
from otel_canonical.request.first_facts import FirstFacts, add_response
from otel_canonical.request.scope import RequestScope
from otel_canonical.request.server_timing import server_timing
from otel_canonical.request.tallies import WebsocketTally
from otel_canonical.settings import Settings

MILLISECOND = 1_000_000


def a_request(elapsed_ms: int = 8, **facts: Any) -> RequestScope:
    """Return a request of Django's that took this long."""
    scope = RequestScope("GET", "/", {})
    scope.ended_ns = scope.started_ns + elapsed_ms * MILLISECOND
    scope.django_request = object()
    scope.modules = 1_000_000
    scope.collected = collections.totals
    for name, value in facts.items():
        setattr(scope, name, value)
    return scope


def facts_of(scope: RequestScope) -> dict[str, Any]:
    """Return the fields that say where its time went."""
    rows: list[FilledRow] = []
    reader = FirstFacts(Settings(), RedactionPolicy(()))
    values, _, _, overlap_ns = reader.read(scope, EventType.REQUEST, 0)
    add_response(rows, values[-8:])
    time_facts.add_surprises(rows, scope, overlap_ns)
    return {key: value for row, values in rows for key, value in row.pairs(values)}


def statistics(waited_ns: int) -> bytes:
    """Return what the kernel writes of a thread."""
    return b"123456789 %d 42\n" % waited_ns


def test_rest_is_what_no_place_has() -> None:
    """Middleware, view and a query of 5 ms, of 8 in all."""
    scope = a_request(mw_ns=MILLISECOND, view_ns=2 * MILLISECOND, accounted_ns=5 * MILLISECOND)
    assert facts_of(scope) == {"mw_time": 0.001, "view_time": 0.002, "resp_other_time": 0.003}


def test_more_than_there_was_time_for_is_overlap() -> None:
    """What ran beside the request, and what was counted twice inside; the rest is none, not negative."""
    scope = a_request(accounted_ns=10 * MILLISECOND, overlap_ns=3 * MILLISECOND)
    found = facts_of(scope)
    assert (found["resp_other_time"], found["resp_overlap"]) == (0, 0.005)


def test_overlap_of_the_clocks_is_left_out() -> None:
    """Less than 0.1 ms."""
    assert "resp_overlap" not in facts_of(a_request(overlap_ns=time_facts.SHOWN_OVERLAP_NS))


@pytest.mark.parametrize(
    ("cpu_ms", "waited_ms", "expected"),
    [
        (3, 4, (0.003, 0.004, 0.001)),
        (0, 0, (0, 0, 0.008)),
        # The wait is read behind the end: no more than there was.
        (3, 7, (0.003, 0.005, 0)),
        # So is the CPU time.
        (9, 1, (0.008, 0, 0)),
    ],
)
@pytest.mark.parametrize("is_answered", [True, False])
def test_states_add_up(
    cpu_ms: int, waited_ms: int, expected: tuple[float, ...], is_answered: bool
) -> None:
    """Whatever the clocks say, with a response or without."""
    scope = a_request(started_cpu_ns=7, ended_cpu_ns=7 + cpu_ms * MILLISECOND, waited=statistics(5))
    scope.ended_waited = statistics(5 + waited_ms * MILLISECOND)
    if is_answered:
        scope.bytes_written, scope.first_byte_ns = 2, scope.started_ns + MILLISECOND
    found = facts_of(scope)
    states = tuple(found[key] for key in ("resp_cpu_time", "resp_cpu_wait", "resp_blocked"))
    assert states == expected
    assert sum(states) == pytest.approx(0.008)
    assert found.get("resp_ttfb") == (0.001 if is_answered else None)


@pytest.mark.parametrize("missing", ["waited", "ended_waited", "ended_cpu_ns"])
def test_states_that_are_unknown_are_left_out(missing: str) -> None:
    """Neither of the two is a guess."""
    known = {"waited": statistics(1), "ended_waited": statistics(2), "ended_cpu_ns": 1 << 62}
    found = facts_of(a_request(**{**known, missing: None}))
    assert not {"resp_cpu_wait", "resp_blocked"} & set(found)
    assert ("resp_cpu_time" in found) == (missing != "ended_cpu_ns")


def test_request_that_django_never_saw_has_no_places() -> None:
    """Gunicorn refused it: nothing is known of its inside."""
    assert facts_of(a_request(django_request=None)) == {}
    answered = a_request(
        started_cpu_ns=0, ended_cpu_ns=MILLISECOND, waited=statistics(0), django_request=None
    )
    answered.ended_waited = statistics(2 * MILLISECOND)
    answered.bytes_written, answered.first_byte_ns = 2, answered.started_ns + MILLISECOND
    assert facts_of(answered) == {
        "resp_bytes": 2,
        "resp_ttfb": 0.001,
        "resp_cpu_time": 0.001,
        "resp_cpu_wait": 0.002,
        "resp_blocked": 0.005,
    }


def test_running_request_is_shown_as_if_it_ended_now() -> None:
    """Its handler and its view have begun; the view has asked a query of 2 ms."""
    scope = a_request(accounted_ns=2 * MILLISECOND)
    scope.handler_mark_ns = scope.started_ns + MILLISECOND
    scope.view_mark_ns = scope.started_ns + 3 * MILLISECOND
    found = facts_of(scope)
    assert found == {"mw_time": 0.002, "view_time": 0.003, "resp_other_time": 0.001}
    scope.ended_ns = None
    assert facts_of(scope)["view_time"] >= 0
    assert set(server_timing(scope).split(";")[0].split(", ")) == {"total"}


def test_surprises_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one that is large enough to matter."""
    grown = iter([50 << 20])
    monkeypatch.setattr(resident_memory, "look", lambda now_ns: next(grown))
    monkeypatch.setattr(collections, "totals", (7 * MILLISECOND, 9))
    scope = a_request(20, collected=(2 * MILLISECOND, 4), resident=40 << 20, django_request=None)
    scope.modules = 0
    scope.log_warnings, scope.log_errors = 2, 1
    scope.websocket = WebsocketTally()
    scope.websocket.received, scope.websocket.close_code = 3, 1000
    found = facts_of(scope)
    assert found.pop("imports") > 100
    assert found == {
        "gc_time": 0.005,
        "gc_runs": 5,
        "mem_growth": 10 << 20,
        "log_warnings": 2,
        "log_errors": 1,
        "ws_messages_in": 3,
        "ws_messages_out": 0,
        "ws_close_code": 1000,
    }


def test_small_collections_and_growth_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than a millisecond, a MiB at most, or growth since a moment that isn't known."""
    monkeypatch.setattr(collections, "totals", (999_999, 3))
    monkeypatch.setattr(resident_memory, "look", lambda now_ns: 41 << 20)
    for resident in (40 << 20, None, 60 << 20):
        scope = a_request(20, collected=(0, 0), resident=resident, django_request=None)
        assert facts_of(scope) == {}


def test_server_timing_has_each_sum_in_milliseconds() -> None:
    """Databases with all of their times; what took none is left out."""
    scope = a_request(cache_ns=5 * MILLISECOND, template_own_ns=6 * MILLISECOND)
    scope.view_ns = 7 * MILLISECOND
    tally = scope.query_tally()
    tally.elapsed_ns, tally.fetch_ns = 1 * MILLISECOND, 10 * MILLISECOND
    tally.connect_ns, tally.txn_ns = 100 * MILLISECOND, 1000 * MILLISECOND
    total, *rest = server_timing(scope).split(", ")
    assert rest == ["db;dur=1111.000", "cache;dur=5.000", "tpl;dur=6.000", "view;dur=7.000"]
    name, _, took_ms = total.partition(";dur=")
    assert name == "total"
    assert 0 < float(took_ms) < 60_000
    scope.started_ns -= 100_000 * MILLISECOND
    assert float(server_timing(scope).split(", ")[0].partition("=")[2]) >= 100_000


@pytest.mark.parametrize(("is_exported", "flags"), [(True, "01"), (False, "00")])
def test_server_timing_names_the_trace_where_there_is_one(is_exported: bool, flags: str) -> None:
    """As a `traceparent`, for a browser's own spans."""
    facts = {"is_named": True, "trace_id": "t1", "span_id": "s1", "is_exported": is_exported}
    scope = a_request(root=SimpleNamespace(**facts))
    assert server_timing(scope).split(", ")[-1] == f'traceparent;desc="00-t1-s1-{flags}"'
    assert "traceparent" not in server_timing(a_request())


@pytest.mark.parametrize("milliseconds", [9, 10, 20])
def test_growth_is_looked_at_where_a_request_took_long(
    milliseconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 10 ms on. A look is a system call."""
    looks: list[int] = []

    def look(now_ns: int) -> int:
        looks.append(now_ns)
        return 50 << 20

    monkeypatch.setattr(resident_memory, "look", look)
    scope = a_request(milliseconds, resident=1, django_request=None)
    is_long = milliseconds >= 10
    assert ("mem_growth" in facts_of(scope)) is is_long
    assert len(looks) == is_long


def test_just_enough_is_said() -> None:
    """A millisecond of collections, and more than a mebibyte of growth."""
    pairs: list[tuple[str, Any]] = []
    scope = a_request(collected=(5, 2))
    process_facts.add_collections(pairs, scope, (5 + MILLISECOND, 3))
    assert pairs == [("gc_time", 0.001), ("gc_runs", 1)]
    assert process_facts.SHOWN_GROWTH == 1024 * 1024
    overlap = a_request(overlap_ns=time_facts.SHOWN_OVERLAP_NS + 1000)
    assert facts_of(overlap)["resp_overlap"] == 0.000101


def test_places_in_templates_and_bodies_are_said() -> None:
    """Where there were any."""
    scope = a_request(template_own_ns=2 * MILLISECOND, body_ns=3 * MILLISECOND, django_request=None)
    assert facts_of(scope) == {"tpl_self_time": 0.002, "body_time": 0.003}
