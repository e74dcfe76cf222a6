"""The pool's books: what slots and workers have done, added up without losing or doubling any of it."""

from __future__ import annotations

import os
import time

from otel_canonical.page_words import COUNTS, no_counts, size_of
from otel_canonical.pool_ledger import Place, PoolLedger, PoolSample, PoolShape, utilization
from otel_canonical.shared_page import PoolState, SharedPage

TEXTS = ("id", "", "", "", "GET", "", "", "/")
SECOND_NS = 1_000_000_000


def open_place(ledger: PoolLedger) -> Place:
    """Return a place that there is room for."""
    place = ledger.open_place()
    assert place is not None
    return place


def begin(place: Place, ago_ns: int = 0, slot: int = 0) -> int:
    """Open a request in a slot of a place; return when."""
    started_ns = time.monotonic_ns() - ago_ns
    place.page.slots_of(place.block)[slot].open(1, started_ns, 3, False, TEXTS)
    return started_ns


def test_busy_time_is_that_of_ended_and_open_requests() -> None:
    """One word says both, whichever way a look at it falls."""
    page = SharedPage(2, 2)
    page.take_block()
    [first, second] = page.slots_of(0)
    assert page.words.busy_ns(0) == 0
    first.open(1, 1000, 3, False, TEXTS)
    first.close(1700)
    first.open(1, 2000, 3, False, TEXTS)
    first.close(2020)
    assert page.words.busy_ns(0) == 720
    began_ns = time.monotonic_ns()
    second.open(1, began_ns - SECOND_NS, 3, False, TEXTS)
    busy_ns = page.words.busy_ns(0)
    assert SECOND_NS + 720 <= busy_ns <= SECOND_NS + 720 + time.monotonic_ns() - began_ns
    assert page.words.busy_ns(1) == 0


def test_words_are_as_large_as_they_say() -> None:
    """The slots begin where the words end."""
    page = SharedPage(3, 5)
    words = page.words
    counts = sum(len(words.counts_of(block)) for block in range(3))
    assert size_of(3, 5) >= 8 * (len(words.waiting) + counts + len(words.busy))
    words.busy[14] = -1
    assert page.slots_of(2)[4].read() is None


def test_dead_workers_stay_in_the_totals() -> None:
    """Lines, busy time and starts of workers that are gone, also of one killed within a request."""
    own = no_counts()
    ledger = PoolLedger(PoolShape(1, 2), own)
    first, second = open_place(ledger), open_place(ledger)
    counts = first.page.words.counts_of(first.block)
    counts[COUNTS.index("request")] += 5
    counts[COUNTS.index("dropped")] += 1
    own[COUNTS.index("lost")] += 1
    begin(first, ago_ns=2 * SECOND_NS)
    alive = ledger.look((), {0: 11, 1: 12})
    ledger.close_place(first, "SIGKILL")
    third = open_place(ledger)
    assert (first.number, second.number, third.number) == (0, 1, 0)
    dead = ledger.look((), {})
    assert dead.counts == {**dict.fromkeys(COUNTS, 0), "request": 5, "dropped": 1, "lost": 1}
    assert dead.busy_ns >= alive.busy_ns >= 2 * SECOND_NS
    assert (dead.workers_started, dead.deaths["SIGKILL"]) == (3, 1)
    assert alive.pids == {0: 11, 1: 12}
    assert ledger.look((), {}).busy_ns == dead.busy_ns


def test_busy_time_never_goes_backwards_while_a_worker_serves() -> None:
    """Looks at a process that opens and closes requests as fast as it can."""
    ledger = PoolLedger(PoolShape(1, 1), no_counts())
    place = open_place(ledger)
    pid = os.fork()
    if pid == 0:
        [slot] = place.page.slots_of(place.block)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            slot.open(1, time.monotonic_ns(), 3, False, TEXTS)
            slot.close(time.monotonic_ns())
        os._exit(0)
    before = ledger.look((), {})
    looks = 0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        sample = ledger.look((), {})
        assert sample.busy_ns >= before.busy_ns
        assert sample.busy_ns <= sample.capacity_ns
        before, looks = sample, looks + 1
    assert looks > 10
    assert before.busy_ns > 0


def test_reload_that_changes_the_shape_begins_a_new_page() -> None:
    """Old workers keep theirs, the state is that of both, and the old page goes with its last worker."""
    ledger = PoolLedger(PoolShape(4, 1, has_queues=True), no_counts())
    old = open_place(ledger)
    begin(old, slot=1)
    ledger.reshape(PoolShape(4, 2, has_queues=True))
    assert open_place(ledger).page is old.page
    ledger.reshape(PoolShape(1, 2))
    new = open_place(ledger)
    assert new.page is not old.page
    assert (old.number, new.number) == (0, 2)
    assert ledger.look((), {}).state == PoolState(3, 1, 9, 1, None)
    ledger.reshape(PoolShape(1, 500))
    assert open_place(ledger).page.blocks == 2000


def test_capacity_is_slots_times_their_time() -> None:
    """Of unbounded workers there is none, so no utilisation either."""
    ledger = PoolLedger(PoolShape(None, 1), no_counts())
    before = ledger.look((), {})
    begin(open_place(ledger))
    after = ledger.look((), {})
    assert (after.capacity_ns, utilization(before, after)) == (0, None)
    assert after.busy_ns > 0
    assert after.state.slots is None


def test_utilization() -> None:
    """Busy slot time over slot time; never more than all of it."""
    state = PoolState(1, 0, 1, 0, None)
    before = PoolSample(0, state, 100, 1000, 1, {}, {}, {})
    assert utilization(before, before._replace(busy_ns=400, capacity_ns=2000)) == 0.3
    assert utilization(before, before._replace(busy_ns=1200, capacity_ns=2000)) == 1.0
    assert utilization(before, before) is None
