"""Which routes are open: counted over workers that live, the most frequent first."""

from __future__ import annotations

from collections import Counter

from otel_canonical.pool.counters import PID
from otel_canonical.pool.open_routes import open_routes, shown_route, shown_routes
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.pool.slots import CLOSING, EXPORTED, Slot

TEXTS = ("id", "", "", "", "GET", "localhost", "127.0.0.1", "/")


def a_worker(scoreboard: Scoreboard) -> int:
    """Return the block of a worker that runs."""
    block = scoreboard.take_block()
    assert block is not None
    scoreboard.counters.of_block(block)[PID] = 1000 + block
    return block


def a_request(scoreboard: Scoreboard, block: int, route: str) -> Slot:
    """Show a request with a route; with an empty one, before its URL is resolved."""
    slot = scoreboard.new_slot(block)
    assert slot is not None
    slot.open(1, 2, 3, EXPORTED, TEXTS)
    if route:
        slot.write_route(2, (route, "view", "/"))
    return slot


def test_open_requests_are_counted_by_route() -> None:
    """Of all workers that live; neither those that end nor those of a worker that has died."""
    scoreboard = Scoreboard(3, 4)
    first, second, dead = (a_worker(scoreboard) for _ in range(3))
    for route in ("reports/", "reports/", "checkout/"):
        a_request(scoreboard, first, route)
    a_request(scoreboard, second, "reports/")
    a_request(scoreboard, second, "")
    a_request(scoreboard, second, "closing/").set_state(CLOSING)
    a_request(scoreboard, second, "ended/").close(9)
    a_request(scoreboard, dead, "dead/")
    scoreboard.counters.of_block(dead)[PID] = 0
    assert open_routes(scoreboard) == {"reports/": 3, "checkout/": 1, "-": 1}
    assert shown_routes(open_routes(scoreboard)) == "3*reports/ 1*- 1*checkout/"


def test_route_of_the_request_before_is_not_shown() -> None:
    """A slot is used again: until its new request has a route it has none."""
    scoreboard = Scoreboard(1, 1)
    slot = a_request(scoreboard, a_worker(scoreboard), "before/")
    slot.close(9)
    slot.open(1, 10, 3, EXPORTED, TEXTS)
    assert open_routes(scoreboard) == {"-": 1}


def test_few_routes_are_named() -> None:
    """The others are one number; what was taken away is nothing."""
    counts = Counter({f"route{n}/": 20 - n for n in range(10)}, gone=0)
    shown = shown_routes(counts).split(" ")
    assert shown[0] == "20*route0/"
    assert shown[-1] == "23*..."
    assert len(shown) == 9
    assert shown_routes(Counter({"a/": 0})) == ""
    once = shown_routes(Counter({f"route{n}/": 1 for n in range(10)}))
    assert once.split(" ") == [*(f"1*route{n}/" for n in range(8)), "2*..."]


def test_routes_have_no_spaces() -> None:
    """A space parts one route from the next."""
    assert shown_route("^a b/(?P<c>\\d+)\t$") == "^ab/(?P<c>\\d+)$"
    assert shown_route(None) == shown_route("") == "-"
