"""PoolLedger: the totals of slots and workers, with nothing lost or counted twice."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from otel_canonical.arbiter.lost_requests import LostRequests
from otel_canonical.pool import ledger as ledger_module
from otel_canonical.pool.counters import COUNTS, QUEUED_LOGS, QUEUED_SPANS, no_counts
from otel_canonical.pool.ledger import PoolLedger, PoolSample, PoolShape, utilization
from otel_canonical.pool.place import Place
from otel_canonical.pool.scoreboard import PoolState, Scoreboard
from otel_canonical.settings import Settings
from tests.support.forks import fork
from tests.support.servers import PATIENCE_S

TEXTS = ("id", "", "", "", "GET", "", "", "/")
SECOND_NS = 1_000_000_000


def open_place(ledger: PoolLedger) -> Place:
    """Return a new place; fail if all are taken."""
    place = ledger.open_place()
    assert place is not None
    return place


def begin(place: Place, ago_ns: int = 0, slot: int = 0) -> int:
    """Open a request in a slot of a place; return when."""
    started_ns = time.monotonic_ns() - ago_ns
    while len(place.slots()) <= slot:
        assert place.new_slot() is not None
    place.slots()[slot].open(1, started_ns, 3, False, TEXTS)
    return started_ns


def test_busy_time_is_that_of_ended_and_open_requests() -> None:
    """One word says both, whichever way a look at it falls."""
    scoreboard = Scoreboard(2, 2)
    scoreboard.take_block()
    first, second = scoreboard.new_slot(0), scoreboard.new_slot(0)
    assert first is not None
    assert second is not None
    assert scoreboard.counters.busy_ns(0) == 0
    first.open(1, 1000, 3, False, TEXTS)
    first.close(1700)
    first.open(1, 2000, 3, False, TEXTS)
    first.close(2020)
    assert scoreboard.counters.busy_ns(0) == 720
    began_ns = time.monotonic_ns()
    second.open(1, began_ns - SECOND_NS, 3, False, TEXTS)
    busy_ns = scoreboard.counters.busy_ns(0)
    assert SECOND_NS + 720 <= busy_ns <= SECOND_NS + 720 + time.monotonic_ns() - began_ns
    assert scoreboard.counters.busy_ns(1) == 0


def test_dead_workers_stay_in_the_totals() -> None:
    """Lines, busy time and starts of workers that are gone, also of one killed within a request."""
    own = no_counts()
    ledger = PoolLedger(PoolShape(1, 2), own)
    first, second = open_place(ledger), open_place(ledger)
    counts = first.scoreboard.counters.counts_of(first.block)
    counts[COUNTS.index("request")] += 5
    counts[COUNTS.index("dropped")] += 1
    own[COUNTS.index("lost")] += 1
    begin(first, ago_ns=2 * SECOND_NS)
    alive = ledger.sample((), {0: 11, 1: 12})
    ledger.close_place(first, "SIGKILL")
    third = open_place(ledger)
    assert (first.number, second.number, third.number) == (0, 1, 0)
    dead = ledger.sample((), {})
    assert dead.counts == {**dict.fromkeys(COUNTS, 0), "request": 5, "dropped": 1, "lost": 1}
    assert dead.busy_ns >= alive.busy_ns >= 2 * SECOND_NS
    assert (dead.workers_started, dead.deaths["SIGKILL"]) == (3, 1)
    assert alive.pids == {0: 11, 1: 12}
    assert ledger.sample((), {}).busy_ns == dead.busy_ns


def test_busy_time_never_goes_backwards_while_a_worker_serves() -> None:
    """Looks at a process that opens and closes requests as fast as it can."""
    ledger = PoolLedger(PoolShape(1, 1), no_counts())
    place = open_place(ledger)

    def serve() -> None:
        slot = place.new_slot()
        assert slot is not None
        while True:
            slot.open(1, time.monotonic_ns(), 3, False, TEXTS)
            slot.close(time.monotonic_ns())

    pid = fork(serve)
    try:
        before = ledger.sample((), {})
        deadline = time.monotonic() + PATIENCE_S
        looks = changes = 0
        while changes < 100 or looks < 1000:
            assert time.monotonic() < deadline, f"{changes} changes in {looks} looks"
            sample = ledger.sample((), {})
            assert before.busy_ns <= sample.busy_ns <= sample.capacity_ns
            changes += before.busy_ns < sample.busy_ns
            before, looks = sample, looks + 1
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_reload_that_changes_the_shape_begins_a_new_scoreboard() -> None:
    """Old workers keep theirs, the state is that of both, and the old scoreboard goes with its last worker."""
    ledger = PoolLedger(PoolShape(4, 1, has_queues=True), no_counts())
    old = open_place(ledger)
    begin(old, slot=1)
    ledger.reshape(PoolShape(4, 2, has_queues=True))
    assert open_place(ledger).scoreboard is old.scoreboard
    ledger.reshape(PoolShape(1, 2))
    new = open_place(ledger)
    assert new.scoreboard is not old.scoreboard
    assert (old.number, new.number) == (0, 2)
    assert ledger.sample((), {}).state == PoolState(3, 1, 9, 1, None)
    ledger.reshape(PoolShape(1, 1500))
    assert open_place(ledger).scoreboard.blocks == 6000


def test_capacity_is_slots_times_their_time() -> None:
    """Of unbounded workers there is none, so no utilisation either."""
    ledger = PoolLedger(PoolShape(1000, 1, is_bounded=False), no_counts())
    before = ledger.sample((), {})
    begin(open_place(ledger))
    after = ledger.sample((), {})
    assert (after.capacity_ns, utilization(before, after)) == (0, None)
    assert after.busy_ns > 0
    assert after.state.slots is None


def test_utilization() -> None:
    """Busy slot time over slot time; never more than all of it."""
    state = PoolState(1, 0, 1, 0, None)
    before = PoolSample(0, state, 100, 1000, 1, {}, {}, {}, {})
    assert utilization(before, before._replace(busy_ns=400, capacity_ns=2000)) == 0.3
    assert utilization(before, before._replace(busy_ns=1200, capacity_ns=2000)) == 1.0
    assert utilization(before, before) is None


def interrupted(do: Callable[[], Any], at: int, handle: Callable[[], None]) -> bool:
    """Run `do`, and `handle` within it as a signal handler; return False if it was over by then.

    Python runs handlers where a function begins and where a call has returned; `at` is which of these.
    """
    moments = itertools.count()
    has_come = False

    def handle_if_due(frame: object, event: str, argument: object) -> None:
        nonlocal has_come
        if event != "c_call" and next(moments) == at:
            has_come = True
            handle()

    sys.setprofile(handle_if_due)
    try:
        do()
    finally:
        sys.setprofile(None)
    return has_come


class Crowd:
    """Three workers on three pages, each of another shape; two of them are to die."""

    def __init__(self) -> None:
        self.ledger = PoolLedger(PoolShape(1, 1), no_counts())
        self.places = []
        for slots in (1, 2, 3):
            self.ledger.reshape(PoolShape(slots, 1))
            place = open_place(self.ledger)
            begin(place, ago_ns=SECOND_NS)
            place.scoreboard.counters.counts_of(place.block)[0] += 5
            self.places.append(place)
        self.before = self.sample()

    def sample(self) -> PoolSample:
        """Return a sample, which says of each worker what it has counted, dead or alive."""
        sample = self.ledger.sample((), {})
        assert sample.counts["request"] == 15
        assert 3 * SECOND_NS <= sample.busy_ns <= 4 * SECOND_NS
        return sample

    def close_place(self, number: int) -> None:
        """Take the place of a worker back."""
        self.ledger.close_place(self.places[number], "exit:7")

    def close_and_sample(self, number: int) -> None:
        """Do what Gunicorn's handler of SIGCHLD does."""
        self.close_place(number)
        self.before = self.sample()


def a_worker_dies(crowd: Crowd) -> None:
    """Another one."""
    crowd.close_place(0)


def a_worker_is_started(crowd: Crowd) -> None:
    """It gets a place of its own."""
    place = open_place(crowd.ledger)
    assert place.number not in (0, 2)
    assert place is crowd.ledger._places[place.number]
    crowd.ledger.close_place(place, "SIGKILL")
    crowd.close_place(0)


def the_pool_is_looked_at(crowd: Crowd) -> None:
    """As each second."""
    crowd.sample()
    crowd.close_place(0)


def the_shape_changes(crowd: Crowd) -> None:
    """In a reload, whose first worker is on the new scoreboard."""
    crowd.ledger.reshape(PoolShape(4, 1))
    place = open_place(crowd.ledger)
    assert place.scoreboard.slots == 4
    crowd.ledger.close_place(place, "SIGKILL")
    crowd.close_place(0)
    crowd.close_place(2)
    crowd.places[2] = open_place(crowd.ledger)


@pytest.mark.parametrize(
    "do", [a_worker_dies, a_worker_is_started, the_pool_is_looked_at, the_shape_changes]
)
def test_accounts_are_right_when_a_place_is_closed_within(do: Callable[[Crowd], None]) -> None:
    """In Gunicorn 23 the handler of SIGCHLD closes places, at any moment; tried at each."""
    for at in itertools.count():
        crowd = Crowd()
        if not interrupted(lambda: do(crowd), at, lambda: crowd.close_and_sample(1)):  # noqa: B023
            break
        after = crowd.sample()
        others = 3 if do is the_shape_changes else 2
        assert after.deaths["exit:7"] == others
        assert after.capacity_ns >= crowd.before.capacity_ns
        assert after.busy_ns >= crowd.before.busy_ns
        assert list(crowd.ledger._places.values()) == [crowd.places[2]]
        current = crowd.places[2].scoreboard
        assert crowd.ledger._scoreboards == [current]
        assert (after.state.workers, after.state.slots) == (1, current.slots)
    assert at > 20


def test_pids_are_told_when_a_worker_is_reaped_meanwhile() -> None:
    """In Gunicorn 23 a signal handler takes it from among them."""
    ledger = PoolLedger(PoolShape(1, 3), no_counts())
    lost_requests = LostRequests(Settings(), ledger, lambda event: None, lambda death: None)
    workers = {pid: SimpleNamespace(pid=pid, age=pid - 10) for pid in (11, 12, 13)}
    for worker in workers.values():
        lost_requests.open_place(worker)
    for at in itertools.count():
        living = dict(workers)
        pids: list[dict[int, int]] = []
        if not interrupted(
            lambda: pids.append(lost_requests.pids(living.values())),  # noqa: B023
            at,
            lambda: living.clear(),  # noqa: B023
        ):
            break
        assert pids[0] in ({0: 11, 1: 12, 2: 13}, {})
    assert at > 3


def test_full_scoreboard_is_followed_by_another() -> None:
    """More workers than it has blocks: each has a place, and freed ones are used again."""
    ledger = PoolLedger(PoolShape(500_000, 1, is_bounded=False), no_counts())
    first = open_place(ledger)
    size = first.scoreboard.blocks
    places = [first, *(open_place(ledger) for _ in range(size + 4))]
    assert [place.number for place in places] == list(range(size + 5))
    assert len({id(place.scoreboard) for place in places}) == 2
    assert ledger.sample((), {}).state.workers == size + 5
    ledger.close_place(first, "SIGKILL")
    again = open_place(ledger)
    assert (again.number, again.block) == (0, 5)
    for place in (*places[1:], again):
        ledger.close_place(place, "SIGKILL")
    assert ledger.sample((), {}).state.workers == 0


def test_memory_that_is_not_used_is_not_touched() -> None:
    """Room for a hundred thousand requests: what the kernel has given is what was written to."""
    ledger = PoolLedger(PoolShape(1000, 4, is_bounded=False), no_counts())
    places = [open_place(ledger) for _ in range(4)]
    for place in places:
        begin(place)
        ledger.sample((), {})
    memory = places[0].scoreboard.memory
    assert memory.fd is not None
    given = os.fstat(memory.fd).st_blocks * 512
    assert os.fstat(memory.fd).st_size > 500_000_000
    assert given < 200_000
    for place in places:
        ledger.close_place(place, "SIGKILL")
    ledger.sample((), {})
    assert os.fstat(memory.fd).st_blocks * 512 == given


def test_place_is_whole_without_a_file_for_crash_dumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left in the arbiter: the worker's requests are watched over all the same."""

    def refuse(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    ledger = PoolLedger(PoolShape(1, 2), no_counts())
    lost_requests = LostRequests(Settings(), ledger, lambda event: None, lambda death: None)
    monkeypatch.setattr(os, "memfd_create", refuse)
    worker = SimpleNamespace(pid=11, age=1)
    place = lost_requests.open_place(worker)
    assert place is not None
    assert place.stacks is None
    assert ledger.sample((), {}).state.workers == 1
    lost_requests.close_place(worker)
    assert ledger.sample((), {}).state.workers == 0


def test_what_a_dead_worker_had_not_exported_is_added_up() -> None:
    """By signal, for the metric of lost exports."""
    ledger = PoolLedger(PoolShape(1, 2), no_counts())
    for spans, logs in ((3, 4), (10, 0)):
        place = open_place(ledger)
        place.words()[QUEUED_SPANS] = spans
        place.words()[QUEUED_LOGS] = logs
        ledger.close_place(place, "SIGKILL")
    assert ledger.sample((), {}).export_lost == {"traces": 13, "logs": 4}


def test_scoreboard_has_room_for_a_pool_that_grows() -> None:
    """By signals, and while old and new workers of a reload serve side by side; address space has a bound."""

    def blocks_of(slots: int, workers: int) -> int:
        return PoolLedger(PoolShape(slots, workers), no_counts()).scoreboards()[0].blocks

    assert blocks_of(1, 1) == 1024
    assert blocks_of(1, 255) == 1024
    assert blocks_of(1, 257) == 4 * 257
    # A block of 10,000 slots has 28 MB.
    assert blocks_of(10_000, 1) == 64
    assert blocks_of(10_000, 20) == 80
    assert 300 < blocks_of(1000, 1) < 1024


def test_reload_begins_a_new_scoreboard_when_half_would_be_taken() -> None:
    """Old workers may hold as many blocks as the new ones need."""
    ledger = PoolLedger(PoolShape(1, 1), no_counts())
    blocks = ledger.scoreboards()[0].blocks
    ledger.reshape(PoolShape(1, blocks // 2))
    assert len(ledger.scoreboards()) == 1
    ledger.reshape(PoolShape(1, blocks // 2 + 1))
    assert len(ledger.scoreboards()) == 2


@pytest.mark.parametrize(
    "shape",
    [PoolShape(2, 1), PoolShape(1, 1, is_bounded=False), PoolShape(1, 1, has_queues=True)],
)
def test_worker_of_another_shape_has_another_scoreboard(shape: PoolShape) -> None:
    """Whatever of it is another; with the shape of before the old one serves again while it is in use."""
    ledger = PoolLedger(PoolShape(1, 1), no_counts())
    old = open_place(ledger)
    ledger.reshape(shape)
    new = open_place(ledger)
    assert new.scoreboard is not old.scoreboard
    assert (new.scoreboard.slots, new.scoreboard.is_bounded) == (shape.slots, shape.is_bounded)
    assert new.scoreboard.has_queues == shape.has_queues
    assert ledger.scoreboards() == [old.scoreboard, new.scoreboard]
    ledger.close_place(old, "exit:0")
    assert ledger.scoreboards() == [new.scoreboard]


def test_deaths_are_counted_by_cause_and_common_ones_from_0() -> None:
    """Also of a worker that had no place."""
    ledger = PoolLedger(PoolShape(1, 1), no_counts())
    common = dict.fromkeys(("shutdown", "exit:0", "timeout", "oom", "SIGKILL"), 0)
    assert ledger.sample((), {}).deaths == common
    for place, cause in ((None, "oom"), (open_place(ledger), "exit:7"), (None, "exit:7")):
        ledger.close_place(place, cause)
    sample = ledger.sample((), {})
    assert sample.deaths == {**common, "oom": 1, "exit:7": 2}
    assert sample.workers_started == 1


def test_capacity_grows_by_the_slots_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers of three slots: six seconds a second, as long as both live."""
    now_ns = [time.monotonic_ns()]
    clock = SimpleNamespace(monotonic_ns=lambda: now_ns[0])
    monkeypatch.setattr(ledger_module, "time", clock)
    ledger = PoolLedger(PoolShape(3, 2), no_counts())
    places = [open_place(ledger), open_place(ledger)]
    before = ledger.sample((), {})
    now_ns[0] += SECOND_NS
    after = ledger.sample((), {})
    assert after.capacity_ns - before.capacity_ns == 6 * SECOND_NS
    for place in places:
        ledger.close_place(place, "exit:0")
    gone = ledger.sample((), {})
    now_ns[0] += SECOND_NS
    assert ledger.sample((), {}).capacity_ns == gone.capacity_ns


def test_pool_of_two_shapes_has_the_sum_of_both() -> None:
    """Without a bound on one of them there is none on the whole; the backlog is one for all."""
    ledger = PoolLedger(PoolShape(2, 1), no_counts())
    begin(open_place(ledger))
    ledger.reshape(PoolShape(3, 1))
    begin(open_place(ledger))
    assert ledger.sample((), {}).state == PoolState(2, 2, 5, 2, None)
    ledger.reshape(PoolShape(4, 1, is_bounded=False))
    begin(open_place(ledger))
    assert ledger.sample((), {}).state == PoolState(3, 3, None, 3, None)
