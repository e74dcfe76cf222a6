"""The pool's accounts: places given out, workers started and dead, and what all of them have counted.

Lives in the arbiter, in its main thread. What a worker has counted in its block is added to the totals
when its place is closed, so no total ever goes backwards, however many workers come and go.

Gunicorn 23 reaps workers in its handler of SIGCHLD. So a place may be closed in the middle of closing
another one, of a sample, or of the preparation of a fork. Python runs a signal handler at a call or at
a loop's next turn. Therefore collections that a handler may change are iterated over in copies, and no
call stands between reading a total and writing it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import add
from typing import Any, NamedTuple

from otel_canonical.pool import backlog
from otel_canonical.pool.counters import COUNTS, Counts
from otel_canonical.pool.scoreboard import PoolState, Scoreboard
from otel_canonical.pool.slots import Slot

#: The least number of blocks: TTIN may enlarge a small pool, and a reload doubles it for a while.
LEAST_BLOCKS = 64
#: Slots for a worker whose concurrency has no small bound (gevent, ASGI).
MOST_SLOTS = 128
#: Reported from the start, as 0: a counter that begins with its first death hides it from a rate.
COMMON_CAUSES = ("shutdown", "exit:0", "timeout", "oom", "SIGKILL")


class PoolShape(NamedTuple):
    """What the configuration says of a pool."""

    #: Requests that one worker serves at once; None if there is no small bound.
    slots: int | None
    #: As configured; TTIN and reloads may make it more.
    workers: int
    #: Whether a worker accepts requests before it has a thread for them.
    has_queues: bool = False


class PoolSample(NamedTuple):
    """The pool at one moment, and all that it has done since the arbiter began."""

    #: Monotonic.
    at_ns: int
    state: PoolState
    #: For how long slots have been busy, together.
    busy_ns: int
    #: For how long there have been slots, together; 0 for worker classes without a bound.
    capacity_ns: int
    workers_started: int
    #: Worker deaths by cause.
    deaths: Mapping[str, int]
    #: By the names in `counters.COUNTS`.
    counts: Mapping[str, int]
    #: The pids of the workers, by their numbers in the pool.
    pids: Mapping[int, int]


def utilization(before: PoolSample, after: PoolSample) -> float | None:
    """Return the busy share of all slots between two samples, 0 to 1; None without a bound on slots."""
    capacity_ns = after.capacity_ns - before.capacity_ns
    if capacity_ns <= 0:
        return None
    return round(min((after.busy_ns - before.busy_ns) / capacity_ns, 1.0), 4)


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's place: a block of a scoreboard, a number in the pool, a file for its crash dump.

    Attributes:
        scoreboard: where its open requests are shown.
        block: which block of it.
        number: the lowest that was free; the worker keeps it for life.
        stacks: a file descriptor; None where there is no memfd.
    """

    scoreboard: Scoreboard
    block: int
    number: int
    stacks: int | None = None

    def slots(self) -> list[Slot]:
        """Return the slots of the block, for the worker to write or the arbiter to read."""
        return self.scoreboard.slots_of(self.block)

    def counts(self) -> memoryview[int]:
        """Return where the worker counts its lines, by `counters.COUNTS`."""
        return self.scoreboard.counters.counts_of(self.block)


class PoolLedger:
    """Gives out places and adds up what their workers do.

    Args:
        shape: of the pool.
        counts: where the arbiter counts the lines that it writes itself.
    """

    def __init__(self, shape: PoolShape, counts: Counts) -> None:
        self._shape = shape
        self._counts = counts
        self._scoreboards = [_scoreboard(shape)]
        #: By their numbers.
        self._places: dict[int, Place] = {}
        self._started = 0
        self._deaths = dict.fromkeys(COMMON_CAUSES, 0)
        self._closed_counts = [0] * len(COUNTS)
        self._closed_busy_ns = 0
        self._busy_ns = 0
        self._capacity_ns = 0
        self._capacity_until_ns = time.monotonic_ns()

    def reshape(self, shape: PoolShape) -> None:
        """Take over the shape of a reload; old workers keep the scoreboard that they have."""
        scoreboard = self._scoreboards[-1]
        fits = shape._replace(workers=0) == self._shape._replace(workers=0)
        self._shape = shape
        if not fits or _blocks(shape) > scoreboard.blocks:
            scoreboard = _scoreboard(shape)
            self._scoreboards.append(scoreboard)

    def open_place(self) -> Place | None:
        """Return the place of a worker that is about to be forked; None if there is no room."""
        self._add_capacity()
        self._started += 1
        scoreboard = self._scoreboards[-1]
        block = scoreboard.take_block()
        if block is None:
            return None
        number = next(n for n in range(len(self._places) + 1) if n not in self._places)
        self._places[number] = place = Place(scoreboard, block, number)
        return place

    def close_place(self, place: Place | None, cause: str) -> None:
        """Count a worker's death and take its place back; None if it had none."""
        self._deaths.setdefault(cause, 0)
        self._deaths[cause] += 1
        if place is None:
            return
        self._add_capacity()
        busy_ns = place.scoreboard.counters.busy_ns(place.block)
        counts = place.counts().tolist()
        # A `map` is lazy: the assignment below adds, in C.
        sums = map(add, self._closed_counts, counts)
        # No calls below: a signal handler must never see this worker counted twice, or not at all.
        self._closed_counts[:] = sums
        self._closed_busy_ns += busy_ns
        del self._places[place.number]
        place.scoreboard.free_block(place.block)
        self._drop_empty_pages()

    def sample(self, listeners: Iterable[Any], pids: Mapping[int, int]) -> PoolSample:
        """Return a sample of now, and write to the scoreboards how many connections wait.

        Args:
            listeners: the arbiter's; if it has none, the workers may have their own.
            pids: of the workers, by their numbers in the pool.
        """
        waiting = backlog.waiting(listeners)
        if waiting is None and (inodes := self._listeners_of_workers()):
            waiting = backlog.waiting_by_inode(inodes)
        now_ns = time.monotonic_ns()
        for scoreboard in [*self._scoreboards]:
            scoreboard.set_backlog(waiting, now_ns)
        counts = self._count()
        # After `_count`: however long this process is suspended in between, busy time stays below capacity.
        self._add_capacity()
        return PoolSample(
            now_ns,
            self._state(now_ns),
            self._busy_ns,
            self._capacity_ns,
            self._started,
            dict(self._deaths),
            counts,
            pids,
        )

    def _listeners_of_workers(self) -> list[int]:
        return [
            inode
            for place in [*self._places.values()]
            for inode in place.scoreboard.counters.listeners_of(place.block)
        ]

    def _state(self, now_ns: int) -> PoolState:
        states = [scoreboard.pool_state(now_ns) for scoreboard in [*self._scoreboards]]
        current = states[-1]
        if len(states) == 1:
            return current
        # During a reload, workers of two shapes serve side by side.
        is_bounded = all(state.slots is not None for state in states)
        return PoolState(
            sum(state.workers for state in states),
            sum(state.active_workers for state in states),
            sum(state.slots or 0 for state in states) if is_bounded else None,
            sum(state.active_slots for state in states),
            current.backlog,
            current.waiting,
        )

    def _count(self) -> dict[str, int]:
        """Return the totals of all workers, and bring `_busy_ns` up to date."""
        living = [*self._places.values()]
        # No calls between these reads: no place is closed in between.
        busy_ns, totals = self._closed_busy_ns, [*self._closed_counts]
        totals = [*map(add, totals, self._counts)]
        for place in living:
            busy_ns += place.scoreboard.counters.busy_ns(place.block)
            totals = [*map(add, totals, place.counts())]
        # A request that ended between reading its word and reading the clock has been counted too long.
        if busy_ns > self._busy_ns:
            self._busy_ns = busy_ns
        return dict(zip(COUNTS, totals, strict=True))

    def _add_capacity(self) -> None:
        now_ns = time.monotonic_ns()
        scoreboards = [place.scoreboard for place in [*self._places.values()]]
        slots = sum([scoreboard.slots for scoreboard in scoreboards if scoreboard.is_bounded])
        elapsed_ns = now_ns - self._capacity_until_ns
        # Otherwise a signal handler has closed a place meanwhile, and has added what there was.
        if elapsed_ns > 0:
            self._capacity_ns += slots * elapsed_ns
            self._capacity_until_ns = now_ns

    def _drop_empty_pages(self) -> None:
        for scoreboard in self._scoreboards[:-1]:
            in_use = any(place.scoreboard is scoreboard for place in [*self._places.values()])
            if not in_use and scoreboard in self._scoreboards:
                self._scoreboards.remove(scoreboard)


def _blocks(shape: PoolShape) -> int:
    return max(LEAST_BLOCKS, 4 * shape.workers)


def _scoreboard(shape: PoolShape) -> Scoreboard:
    return Scoreboard(
        _blocks(shape),
        shape.slots or MOST_SLOTS,
        is_bounded=shape.slots is not None,
        has_queues=shape.has_queues,
    )
