"""What is shown of a request while it runs: on the scoreboard, and on lines that don't end it."""

from __future__ import annotations

from typing import Any

import pytest

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.pool.counters import PID
from otel_canonical.pool.place import Place
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.pool.slots import EXPORTED
from otel_canonical.process.identity import own
from otel_canonical.request import progress
from otel_canonical.request.progress import Outputs, RequestProgress
from otel_canonical.request.scope import RequestScope, StackSample
from otel_canonical.settings import read_settings

SECOND = 1_000_000_000


class Shown:
    """A worker's requests, their scoreboard, and what was written of them."""

    def __init__(self, **environ: str) -> None:
        settings = read_settings(
            {f"OTEL_PYTHON_CANONICAL_{name}": value for name, value in environ.items()}, str
        )
        board = Scoreboard(1, 8)
        self.place = Place(board, board.take_block() or 0, 0)
        self.place.words()[PID] = 1
        self.events: list[CanonicalEvent] = []
        self.exported: list[CanonicalEvent] = []
        outputs = Outputs(
            lambda event: b"",
            lambda event, line, slot: self.events.append(event),
            lambda event, scope: self.exported.append(event),
        )
        self.requests = RequestProgress(settings, RootFactory(None, str), outputs, self.place)

    def open(self, path: str = "/a/", *, has_slot: bool = True, **facts: Any) -> RequestScope:
        """Open a request; it has a slot unless all are taken."""
        scope = RequestScope("GET", path, facts.pop("headers", {}))
        for name, value in facts.items():
            setattr(scope, name, value)
        if has_slot:
            scope.slot = self.place.new_slot()
            assert scope.slot is not None
            texts = ("id", "", "", "", "GET", "", "", path)
            scope.slot.open(1, scope.started_ns, 3, EXPORTED, texts)
        return scope

    def texts_of(self, scope: RequestScope) -> dict[str, str]:
        """Return the texts of a request on the scoreboard."""
        assert scope.slot is not None
        request = scope.slot.read()
        assert request is not None
        return {**request.texts, **request.watched}


def test_route_and_view_are_shown_once_known() -> None:
    """With the path as the line will show it."""
    shown = Shown()
    whole = shown.open("/reset/hunter2/", route="reset/<token>/", view="shop.reset")
    whole.url_kwargs = {"token": "hunter2"}
    bare = shown.open("/b/")
    for scope in (whole, bare, shown.open(has_slot=False)):
        shown.requests.progress(scope)
    texts = shown.texts_of(whole)
    assert (texts["route"], texts["view"]) == ("reset/<token>/", "shop.reset")
    assert texts["path"] == "/reset/[redacted]/"
    texts = shown.texts_of(bare)
    assert (texts["route"], texts["view"], texts["path"]) == ("", "", "/b/")


@pytest.mark.parametrize(
    ("view", "url_name", "is_exempt"),
    [("shop.report", None, True), ("shop.ok", "report", True), ("shop.ok", None, False)],
)
def test_slow_requests_are_excused_by_view_or_name(
    view: str, url_name: str | None, is_exempt: bool
) -> None:
    """As the operator has said; of nothing else."""
    shown = Shown(SLOW_EXEMPT="*report")
    scope = shown.open(view=view, url_name=url_name)
    shown.requests.progress(scope)
    assert scope.is_exempt_from_slow is is_exempt


def test_fork_of_the_worker_shows_nothing() -> None:
    """The request is the worker's."""
    shown = Shown(SLOW_EXEMPT="*")
    scope = shown.open(route="a/", view="shop.a")
    own[0] = 0
    try:
        shown.requests.progress(scope)
    finally:
        own[0] = 1
    assert "route" not in shown.texts_of(scope)
    assert not scope.is_exempt_from_slow


@pytest.mark.parametrize("loc", ["a.py:1:f", None])
def test_place_at_the_deadline_is_shown(loc: str | None) -> None:
    """With the seconds after which it was seen; a place that may not be named is empty."""
    shown = Shown()
    scope = shown.open(route="a/")
    shown.requests.due(scope)
    assert "after_s" not in shown.texts_of(scope)
    scope.stuck = StackSample(scope.started_ns + 3 * SECOND // 2, loc, loc, "")
    shown.requests.due(scope)
    texts = shown.texts_of(scope)
    assert (texts["after_s"], texts["loc"], texts["cause_loc"]) == ("1.5", loc or "", loc or "")
    without = shown.open(has_slot=False, stuck=scope.stuck)
    shown.requests.due(without)


@pytest.mark.parametrize(("waited_s", "is_late"), [(0.499999, False), (0.5, True)])
def test_request_that_waited_half_a_second_is_late(
    waited_s: float, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the operator says what slow is."""
    monkeypatch.setattr(progress, "queue_time_s", lambda headers, now_s: waited_s)
    shown = Shown(SLOW_SECONDS="off")
    scope = shown.open()
    shown.requests._note_queue_time(scope)
    assert (scope.neighbours is not None) is is_late


def test_neighbours_are_the_other_open_requests() -> None:
    """By route, without the request itself, where it has a slot of its own."""
    shown = Shown()
    scopes = [shown.open(route=route) for route in ("a/", "a/", "b/")]
    for scope in scopes:
        shown.requests.progress(scope)
    shown.requests.due(scopes[0])
    assert scopes[0].neighbours == {"a/": 1, "b/": 1}
    unshown = shown.open(has_slot=False, route="a/")
    shown.requests.due(unshown)
    assert unshown.neighbours == {"a/": 2, "b/": 1}


@pytest.mark.parametrize(
    ("slow_seconds", "waited_s", "is_late"),
    [("", 0.6, True), ("", 0.4, False), ("2", 1.9, False), ("2", 2.1, True)],
)
def test_late_request_notes_what_else_is_open(
    slow_seconds: str, waited_s: float, is_late: bool
) -> None:
    """Late after half a second, or after what the operator says is slow."""
    shown = Shown(SLOW_SECONDS=slow_seconds)
    scope = shown.open()
    since = scope.started_wall_ns / 1e9 - waited_s
    scope.headers = {"X-REQUEST-START": f"t={since:.6f}"}
    shown.requests._note_queue_time(scope)
    assert scope.queue_s == pytest.approx(waited_s, abs=1e-5)
    assert (scope.neighbours is not None) is is_late
    unmarked = shown.open()
    shown.requests._note_queue_time(unmarked)
    assert (unmarked.queue_s, unmarked.neighbours) == (None, None)


def test_slow_line_is_written_and_exported_with_the_pool() -> None:
    """While the request runs."""
    shown = Shown()
    scope = shown.open(route="a/")
    scope.slow = StackSample(scope.started_ns + SECOND, "a.py:1:f", "b.py:2:g", "")
    shown.requests.progress(scope)
    shown.requests.slow(scope)
    [event] = shown.events
    assert shown.exported == [event]
    facts = dict(event.pairs)
    assert facts["event_type"] == "slow"
    assert (facts["g_w_count"], facts["g_w_active"], facts["g_t_active"]) == (1, 1, 1)
    assert facts["g_open"] == "1*a/"
    assert scope.is_open


def test_without_a_scoreboard_there_is_no_pool_to_show() -> None:
    """Lines come all the same."""
    events: list[CanonicalEvent] = []
    outputs = Outputs(lambda event: b"", lambda event, line, slot: events.append(event))
    requests = RequestProgress(read_settings({}, str), RootFactory(None, str), outputs, None)
    scope = RequestScope("GET", "/", {})
    requests.progress(scope)
    requests.due(scope)
    requests.slow(scope)
    assert (scope.pool, scope.neighbours) == (None, None)
    assert [dict(event.pairs)["event_type"] for event in events] == ["slow"]
