"""Scoreboard and slots: what is written is read, torn writes are noticed, and forks share it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.pool import counters
from otel_canonical.pool.layout import USED_BLOCKS
from otel_canonical.pool.scoreboard import FRESH_NS, PoolState, Scoreboard
from otel_canonical.pool.slots import (
    CLOSING,
    EXPORTED,
    IDLE,
    REQUEST_TEXTS,
    ROUTE_TEXTS,
    OpenRequest,
    Slot,
)
from tests.support.forks import exit_status, fork

TEXTS = ("id", "t" * 32, "s" * 16, "", "GET", "localhost", "127.0.0.1", "/caf%C3%A9/")


def open_slot(slot: Slot, texts: tuple[str, ...] = TEXTS) -> None:
    """Show a request in a slot."""
    slot.open(11, 22, 33, EXPORTED, texts)


def first_slot() -> Slot:
    """Return a slot of a new scoreboard."""
    scoreboard = Scoreboard(2, 2)
    block = scoreboard.take_block()
    assert block is not None
    return new_slot(scoreboard, block)


def new_slot(scoreboard: Scoreboard, block: int = 0) -> Slot:
    """Return a slot that was never used."""
    slot = scoreboard.new_slot(block)
    assert slot is not None
    return slot


def test_request_is_read_as_it_was_written() -> None:
    """All that a slot can say, once it has been said."""
    slot = first_slot()
    assert slot.read() is None
    open_slot(slot)
    assert slot.read() == OpenRequest(
        11, 22, 33, True, False, 0, dict(zip(REQUEST_TEXTS, TEXTS, strict=True)), {}
    )
    slot.set_queries(22, 7)
    slot.write_route(22, ("route/", "app.view", "/redacted/"))
    slot.write_watched(22, ("1.5", "a.py:1:f", "b.py:2:g"))
    slot.set_status(22, 503)
    request = slot.read()
    assert request is not None
    assert (request.queries, request.status) == (7, 503)
    assert (request.texts["route"], request.texts["path"]) == ("route/", "/redacted/")
    assert request.watched == {"after_s": "1.5", "loc": "a.py:1:f", "cause_loc": "b.py:2:g"}


def test_path_that_the_request_has_shown_needs_no_second_copy() -> None:
    """A route without parameters hides nothing of it."""
    slot = first_slot()
    open_slot(slot)
    slot.write_route(22, ("route/", "app.view"))
    request = slot.read()
    assert request is not None
    shown = [request.texts[name] for name in ("route", "view", "path")]
    assert shown == ["route/", "app.view", TEXTS[-1]]


def test_new_request_has_nothing_of_the_one_before() -> None:
    """Queries, route and what the watchdog saw are those of the request that is open."""
    slot = first_slot()
    open_slot(slot)
    slot.set_queries(22, 7)
    slot.write_route(22, ("route/", "app.view", "/"))
    slot.write_watched(22, ("1.5", "a.py:1:f", "b.py:2:g"))
    slot.set_status(22, 503)
    slot.set_state(IDLE)
    assert slot.read() is None
    open_slot(slot)
    request = slot.read()
    assert request is not None
    assert (request.queries, request.watched, request.texts.get("route")) == (0, {}, None)
    assert request.status is None


def test_new_request_gets_nothing_that_is_noted_of_the_one_before() -> None:
    """A thread that it has left behind, and the watchdog, may come when the slot has its next."""
    slot = first_slot()
    open_slot(slot)
    slot.close(30)
    slot.open(11, 44, 55, EXPORTED, TEXTS)
    slot.set_queries(22, 7)
    slot.write_route(22, ("route/", "app.view", "/"))
    slot.write_watched(22, ("1.5", "a.py:1:f", "b.py:2:g"))
    slot.set_status(22, 503)
    request = slot.read()
    assert request is not None
    assert (request.queries, request.watched, request.texts.get("route")) == (0, {}, None)
    assert request.status is None


def test_slot_is_not_open_while_its_line_is_written() -> None:
    """A worker killed around the write of its line has written it."""
    slot = first_slot()
    open_slot(slot)
    slot.set_state(CLOSING)
    assert (slot.state(), slot.read()) == (CLOSING, None)


@given(st.lists(st.text(), min_size=len(REQUEST_TEXTS), max_size=len(REQUEST_TEXTS)))
def test_any_text_fits(texts: list[str]) -> None:
    """Whatever a client sends, each text stays within its own bytes of the slot."""
    slot = first_slot()
    open_slot(slot, tuple(texts))
    slot.write_route(22, tuple(texts[: len(ROUTE_TEXTS)]))
    request = slot.read()
    assert request is not None
    assert not slot.is_torn()
    for (name, limit), text in zip(REQUEST_TEXTS.items(), texts, strict=True):
        if name not in ROUTE_TEXTS:
            whole = text.replace("\0", " ").encode("utf-8", "replace")
            assert request.texts[name].encode() in (whole, *cuts(whole, limit))


def cuts(text: bytes, limit: int) -> list[bytes]:
    """Return a text cut to its bytes in the slot, without half a character at its end."""
    return [text[:limit].decode("utf-8", "ignore").encode()]


def test_torn_write_is_told_apart() -> None:
    """A writer killed within its write leaves a slot that is open and says nothing wrong."""
    scoreboard = Scoreboard(1, 1)
    scoreboard.take_block()
    slot = new_slot(scoreboard)
    open_slot(slot)
    # As if killed halfway through the next write: a new head before an old tail.
    memory, at = slot.memory, slot._at
    memory[at : at + 8] = (99).to_bytes(8, "little")
    assert slot.is_torn()
    request = slot.read()
    assert request is not None
    assert request.texts == {}


def test_scoreboard_is_shared_with_a_forked_child() -> None:
    """What a child writes before it dies, its parent reads."""
    scoreboard = Scoreboard(1, 1)
    scoreboard.take_block()
    assert exit_status(fork(lambda: open_slot(new_slot(scoreboard)))) == 0
    request = scoreboard.slots_of(0)[0].read()
    assert request is not None
    assert request.texts["request_id"] == "id"


def test_no_block_when_all_are_taken() -> None:
    """More workers than blocks: the rest have none, and a freed one is given out again."""
    scoreboard = Scoreboard(2, 1)
    assert [scoreboard.take_block() for _ in range(3)] == [0, 1, None]
    open_slot(new_slot(scoreboard, 1))
    scoreboard.free_block(1)
    assert scoreboard.take_block() == 1
    assert scoreboard.slots_of(1) == []
    assert new_slot(scoreboard, 1).read() is None


def test_pool_state_of_scoreboard() -> None:
    """The table is read as a whole: workers, busy ones, slots, busy slots, and a fresh backlog."""
    scoreboard = Scoreboard(8, 2)
    assert scoreboard.pool_state(0) == PoolState(0, 0, 0, 0, None)
    blocks = [scoreboard.take_block() for _ in range(3)]
    assert blocks == [0, 1, 2]
    for block in (0, 2, 2):
        open_slot(new_slot(scoreboard, block))
    scoreboard.set_backlog(7, 10)
    assert scoreboard.pool_state(11) == PoolState(3, 2, 6, 3, 7)
    assert scoreboard.pool_state(10_000_000_000).backlog is None
    scoreboard.free_block(2)
    assert scoreboard.pool_state(11) == PoolState(2, 1, 4, 1, 7)
    assert scoreboard.take_block() == 2


def test_waiting_requests_are_summed_where_workers_queue() -> None:
    """Over all workers that live; of other classes it isn't told."""
    scoreboard = Scoreboard(8, 2, has_queues=True)
    for block in range(3):
        scoreboard.take_block()
        scoreboard.counters.waiting[block] += block + 1
    assert scoreboard.pool_state(0).waiting == 6
    scoreboard.free_block(1)
    assert scoreboard.pool_state(0).waiting == 4
    assert Scoreboard(8, 2).pool_state(0).waiting is None


def test_slot_shows_what_is_waited_for() -> None:
    """A query, a call to another system, or neither; and since when."""
    slot = first_slot()
    open_slot(slot)
    shown = []
    for change in (
        lambda: None,
        lambda: slot.begin_query(22, 100, 5),
        lambda: slot.set_queries(22, 1),
        lambda: slot.begin_call(22, 200, 6),
        lambda: slot.end_call(22),
    ):
        change()
        request = slot.read()
        assert request is not None
        shown.append((request.waiting_since_ns, request.system_number, request.sql_number))
    assert shown == [(None, 0, 0), (100, 0, 5), (None, 0, 5), (200, 6, 5), (None, 0, 5)]
    slot.begin_query(21, 300, 7)
    slot.begin_call(21, 300, 7)
    assert slot.read() is not None
    assert slot.read().waiting_since_ns is None  # type: ignore[union-attr]


def test_next_worker_of_a_block_begins_at_zero() -> None:
    """Busy time, counts and open slots of the one before are not its own; its neighbours keep theirs."""
    scoreboard = Scoreboard(3, 2)
    for block in range(3):
        assert scoreboard.take_block(block + 5) == block
        for _ in range(2):
            slot = new_slot(scoreboard, block)
            slot.open(1, 1000, 3, EXPORTED, TEXTS)
            slot.close(1000 + 10**block)
        scoreboard.counters.counts_of(block)[0] = block + 1
    busy = [scoreboard.counters.busy_ns(block) for block in range(3)]
    assert busy == [2, 20, 200]
    scoreboard.free_block(1)
    assert scoreboard.take_block(9) == 1
    assert [scoreboard.counters.busy_ns(block) for block in range(3)] == [2, 0, 200]
    assert [scoreboard.counters.counts_of(block)[0] for block in range(3)] == [1, 0, 3]
    words = scoreboard.counters.of_block(1)
    assert (words[counters.NUMBER], words[counters.PID]) == (9, counters.RESERVED)
    assert words[counters.STARTED_NS] > 0
    # Its slots are used anew, from the first on: all of the old busy time is gone.
    for _ in range(2):
        new_slot(scoreboard, 1)
    assert scoreboard.counters.busy_ns(1) == 0


def test_readers_look_no_further_than_the_last_worker() -> None:
    """Memory behind it was perhaps never touched, and must not be by a look."""
    scoreboard = Scoreboard(8, 1)
    used = []
    for _ in range(3):
        scoreboard.take_block()
        used.append(scoreboard.memory.words[USED_BLOCKS])
    for block in (1, 2, 0):
        scoreboard.free_block(block)
        used.append(scoreboard.memory.words[USED_BLOCKS])
    assert used == [1, 2, 3, 3, 1, 0]
    scoreboard.free_block(0)
    assert scoreboard.pool_state(0).workers == 0


def test_no_slot_when_all_are_used() -> None:
    """As many as the worker serves at once; the count of used ones stays right."""
    scoreboard = Scoreboard(2, 2)
    scoreboard.take_block()
    found = [scoreboard.new_slot(0) is not None for _ in range(4)]
    assert found == [True, True, False, False]
    assert len(scoreboard.slots_of(0)) == scoreboard.counters.used_slots(0) == 2
    assert scoreboard.slots_of(1) == []


def test_backlog_is_shown_as_long_as_it_is_fresh() -> None:
    """Also one of 0, which is not the same as unknown."""
    scoreboard = Scoreboard(1, 1)
    assert scoreboard.pool_state(0).backlog is None
    for seen in (0, 3, None):
        scoreboard.set_backlog(seen, 10)
        assert scoreboard.pool_state(10 + FRESH_NS - 1).backlog == seen
        assert scoreboard.pool_state(10 + FRESH_NS).backlog is None


def test_unbounded_workers_have_no_number_of_slots() -> None:
    """Greenlets and tasks: as many as come."""
    scoreboard = Scoreboard(2, 5, is_bounded=False)
    scoreboard.take_block()
    open_slot(new_slot(scoreboard, 0))
    assert scoreboard.pool_state(0) == PoolState(1, 1, None, 1, None)


def test_routes_of_workers_that_are_gone_are_not_open() -> None:
    """A block that is free, or reserved for a worker that is not forked yet, holds the dead one's slots."""
    scoreboard = Scoreboard(3, 2)
    for block in range(3):
        scoreboard.take_block()
        scoreboard.counters.of_block(block)[counters.PID] = 100 + block
        slot = new_slot(scoreboard, block)
        open_slot(slot)
        slot.write_route(22, (f"route{block}/", "", ""))
    assert scoreboard.open_routes() == ["route0/", "route1/", "route2/"]
    scoreboard.free_block(1)
    assert scoreboard.open_routes() == ["route0/", "route2/"]
    scoreboard.counters.of_block(0)[counters.PID] = counters.RESERVED
    assert scoreboard.open_routes() == ["route2/"]


def test_listeners_of_a_worker_are_noted_if_all_have_room() -> None:
    """Half of them would be half of the backlog."""
    scoreboard = Scoreboard(2, 1)
    noted = []
    for inodes in ([], [7], [7, 8, 9, 10], [1, 2, 3, 4, 5]):
        scoreboard = Scoreboard(2, 1)
        scoreboard.counters.set_listeners(1, inodes)
        noted.append(scoreboard.counters.listeners_of(1))
        assert scoreboard.counters.listeners_of(0) == []
    assert noted == [[], [7], [7, 8, 9, 10], []]


def test_busy_slots_of_a_freed_block_count_no_longer() -> None:
    """Its worker was killed with requests open and others waiting."""
    scoreboard = Scoreboard(2, 2, has_queues=True)
    for block in range(2):
        scoreboard.take_block()
        open_slot(new_slot(scoreboard, block))
        scoreboard.counters.waiting[block] = 1
    scoreboard.free_block(0)
    assert scoreboard.pool_state(0) == PoolState(1, 1, 2, 1, None, 1)
    assert scoreboard.counters.active.tolist() == [0, 1]
