"""A request's scope: facts are added while it runs, the first to close it wins, a status is what was sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.pool.slots import EXPORTED, UNEXPORTED, OpenRequest, Slot
from otel_canonical.process.identity import own
from otel_canonical.request.scope import RequestScope, current_scope, open_scope
from otel_canonical.stacks.errors import ErrorFacts

TEXTS = ("id", "", "", "", "GET", "", "", "/")
REFUSED = ErrorFacts("InvalidRequestLine", "", None, None, None)
EARLIER = ErrorFacts("ValueError", "", None, None, None)


def a_request() -> RequestScope:
    """Return a request that was just accepted."""
    return RequestScope("GET", "/", {})


def a_slot(scope: RequestScope) -> Slot:
    """Return a slot that shows a request."""
    scoreboard = Scoreboard(1, 1)
    scoreboard.take_block()
    slot = scoreboard.new_slot(0)
    assert slot is not None
    slot.open(1, scope.started_ns, 3, EXPORTED, TEXTS)
    scope.slot = slot
    return slot


@pytest.fixture
def fork() -> Iterator[None]:
    """As in a fork of the worker."""
    own[0] = 0
    yield
    own[0] = 1


def shown(slot: Slot) -> OpenRequest:
    """Return what the scoreboard shows of an open request."""
    request = slot.read()
    assert request is not None
    return request


def test_root_of_a_new_request_names_nothing() -> None:
    """No trace, nothing recorded or exported, and nothing to undo."""
    root = a_request().root
    assert (root.trace_id, root.span_id, root.caller_span_id) == ("", "", "")
    assert (root.is_exported, root.is_recorded, root.is_named) == (False, False, False)
    assert (root.mark, root.caller, root.export_rule) == (UNEXPORTED, None, None)


def test_new_request_has_no_facts() -> None:
    """Nothing of it is known, and none of its times has passed."""
    scope = a_request()
    for name in (
        "mw view template_own body accounted overlap cache template handler_mark view_mark".split()
    ):
        assert getattr(scope, f"{name}_ns") == 0, name
    for name in "template_renders cache_hits cache_misses log_warnings log_errors modules".split():
        assert getattr(scope, name) == 0, name
    assert scope.collected == (0, 0)
    flags = (
        "client_gone is_aborted is_exempt_from_slow is_exempt_from_deadline is_written is_claimed"
    )
    assert not any(getattr(scope, name) for name in (*flags.split(), "is_left_later"))
    assert not scope.has_context_headers
    assert scope.is_open


def test_first_to_claim_a_request_wins() -> None:
    """The others are told so."""
    scope = a_request()
    assert [scope.claim() for _ in range(3)] == [True, False, False]
    assert scope.is_claimed


def test_first_error_is_the_requests() -> None:
    """The SystemExit of an abort is how the worker ends, not what went wrong."""
    scope = a_request()
    scope.is_aborted = True
    scope.note_error(SystemExit(1))
    assert scope.error is None
    scope.note_answered()
    assert not scope.is_aborted
    scope.note_error(ValueError("first"))
    scope.note_error(KeyError("second"))
    assert scope.error is not None
    assert (scope.error.type, scope.error.message) == ("ValueError", "first")


def test_refusal_counts_unless_a_response_has_begun() -> None:
    """The client got one status; an earlier error is the cause."""
    refused, late = a_request(), a_request()
    refused.note_refusal(400, REFUSED)
    assert (refused.status, refused.error) == (400, REFUSED)
    assert refused.first_byte_ns is not None
    late.note_head(200)
    first_byte_ns = late.first_byte_ns
    late.error = EARLIER
    late.note_refusal(500, REFUSED)
    assert (late.status, late.error, late.first_byte_ns) == (200, EARLIER, first_byte_ns)


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        (200, 200),
        (1, 1),
        (65535, 65535),
        (65536, None),
        (0, None),
        (-1, None),
        ("200", None),
        (True, None),
    ],
)
def test_sent_status_is_shown_where_it_is_one(status: object, seen: int | None) -> None:
    """An application may send anything; a slot has two bytes for it."""
    scope = a_request()
    slot = a_slot(scope)
    scope.note_head(status)  # type: ignore[arg-type]
    assert shown(slot).status == seen
    assert (scope.status, scope.bytes_written) == (status, 0)
    assert scope.first_byte_ns is not None
    assert scope.started_ns <= scope.first_byte_ns <= time.monotonic_ns()


def test_queries_are_counted_and_shown_while_the_request_is_open() -> None:
    """What runs later is nobody's, and nor is what runs in a fork."""
    scope = a_request()
    slot = a_slot(scope)
    for failed in (False, True):
        scope.add_query("SELECT 1", 5, failed)
    assert scope.queries is not None
    assert (scope.queries.count, scope.queries.errors, scope.accounted_ns) == (2, 1, 10)
    assert shown(slot).queries == 2
    scope.is_open = False
    scope.add_query("SELECT 1", 5, False)
    assert (scope.queries.count, scope.accounted_ns) == (2, 10)


def test_nothing_is_counted_in_a_fork(fork: None) -> None:
    """It is the worker's request."""
    scope = a_request()
    scope.add_query("SELECT 1", 5, False)
    assert scope.queries is None
    context = copy_context()
    context.run(current_scope.set, scope)
    assert context.run(open_scope) is None


def test_open_scope_is_the_current_one() -> None:
    """None outside a request and after its end."""
    scope = a_request()

    def look() -> None:
        assert open_scope() is None
        current_scope.set(scope)
        assert open_scope() is scope
        scope.is_open = False
        assert open_scope() is None

    copy_context().run(look)


def test_calls_and_timers_are_totals_by_name() -> None:
    """Each has its own."""
    scope = a_request()
    assert (scope.calls, scope.timers, scope.app) == (None, None, None)
    scope.add_call("http", 5, False)
    scope.add_call("http", 6, True)
    scope.add_call("redis", 7, False)
    scope.add_time("pricing", 8)
    scope.add_time("pricing", 9)
    scope.set_app("a", 1)
    scope.set_app("b", 2)
    assert scope.calls is not None
    assert scope.timers is not None
    calls = {
        name: (tally.count, tally.elapsed_ns, tally.errors) for name, tally in scope.calls.items()
    }
    assert calls == {"http": (2, 11, 1), "redis": (1, 7, 0)}
    assert (scope.timers["pricing"].count, scope.timers["pricing"].elapsed_ns) == (2, 17)
    assert scope.app == {"a": 1, "b": 2}
