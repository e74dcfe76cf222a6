"""The books of the pool: blocks given out, workers started and dead, and what all of them have counted.

Lives in the arbiter, in its main thread. What a worker has counted in its block goes over into the
books when it is buried, so no total ever goes backwards, however many workers come and go.

Gunicorn 23 buries and looks in its handler of SIGCHLD, so a burial may begin and end within another
one, within a look, or within the preparation of a fork. Python runs a handler when something is called
or a loop goes round. So what a burial changes is walked along in a copy here, and between reading a
total and writing it nothing is called.
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

#: TTIN may make a small pool larger, and a reload doubles it for a while.
LEAST_BLOCKS = 64
#: Slots for a worker whose concurrency has no small bound (gevent, ASGI).
MOST_SLOTS = 128
#: Told of from the start: a total that begins with its first death hides that one from a rate.
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
    #: By the names of `counters.COUNTS`.
    counts: Mapping[str, int]
    #: The pids of the workers, by their numbers in the pool.
    pids: Mapping[int, int]


def utilization(before: PoolSample, after: PoolSample) -> float | None:
    """Return which share of the slots was busy between two samples; None if nobody can tell."""
    capacity_ns = after.capacity_ns - before.capacity_ns
    if capacity_ns <= 0:
        return None
    return round(min((after.busy_ns - before.busy_ns) / capacity_ns, 1.0), 4)


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is given: a block of a scoreboard and, for life, the lowest number that is free."""

    scoreboard: Scoreboard
    block: int
    number: int
    #: The file for its stacks, None where there are none.
    stacks: int | None = None


class PoolLedger:
    """Gives out places and adds up what happens in them.

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
        self._buried_counts = [0] * len(COUNTS)
        self._buried_busy_ns = 0
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
        """Note a worker's death and take its place back."""
        self._deaths.setdefault(cause, 0)
        self._deaths[cause] += 1
        if place is None:
            return
        self._add_capacity()
        words = place.scoreboard.counters
        busy_ns = words.busy_ns(place.block)
        counts = words.counts_of(place.block).tolist()
        # Lazy: it is the assignment that adds, in C.
        sums = map(add, self._buried_counts, counts)
        # From here on nothing is called: a worker is among the living or among the buried, never both.
        self._buried_counts[:] = sums
        self._buried_busy_ns += busy_ns
        del self._places[place.number]
        place.scoreboard.free_block(place.block)
        self._drop_empty_pages()

    def look(self, listeners: Iterable[Any], pids: Mapping[int, int]) -> PoolSample:
        """Return a sample of now, and note on the scoreboards how many connections wait.

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
        # After it: however long this process is kept waiting in between, nothing is busier than it can be.
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
        # In a reload workers of two shapes serve side by side.
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
        """Return what all have counted, and bring `_busy_ns` up to date."""
        living = [*self._places.values()]
        # Nothing is called in between, so that nobody is buried there.
        busy_ns, totals = self._buried_busy_ns, [*self._buried_counts]
        totals = [*map(add, totals, self._counts)]
        for place in living:
            words = place.scoreboard.counters
            busy_ns += words.busy_ns(place.block)
            totals = [*map(add, totals, words.counts_of(place.block))]
        # A request that ended between a look at its word and one at the clock was seen too long.
        if busy_ns > self._busy_ns:
            self._busy_ns = busy_ns
        return dict(zip(COUNTS, totals, strict=True))

    def _add_capacity(self) -> None:
        now_ns = time.monotonic_ns()
        scoreboards = [place.scoreboard for place in [*self._places.values()]]
        slots = sum([scoreboard.slots for scoreboard in scoreboards if scoreboard.is_bounded])
        elapsed_ns = now_ns - self._capacity_until_ns
        # Else somebody was buried meanwhile, and has added what there was.
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
