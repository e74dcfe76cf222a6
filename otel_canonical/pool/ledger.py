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
from operator import add
from typing import Any, NamedTuple

from otel_canonical.pool import backlog, layout
from otel_canonical.pool.counters import COUNTS, QUEUED_LOGS, QUEUED_SPANS, Counts
from otel_canonical.pool.place import Place
from otel_canonical.pool.scoreboard import PoolState, Scoreboard

#: TTIN may enlarge a small pool, and a reload doubles it for a while. If a scoreboard is full
#: nevertheless, the pool gets another.
LEAST_BLOCKS = 64
MOST_BLOCKS = 1024
#: Up to this size a scoreboard has room for `MOST_BLOCKS`: address space, not memory.
USUAL_SIZE = 1 << 30
#: Reported from the start, as 0: a counter that begins with its first death hides it from a rate.
COMMON_CAUSES = ("shutdown", "exit:0", "timeout", "oom", "SIGKILL")


class PoolShape(NamedTuple):
    """What the configuration says of a pool."""

    #: Requests that one worker serves at once, at most.
    slots: int
    #: As configured; TTIN and reloads may make it more.
    workers: int
    #: Whether a worker never serves more: its slots are a capacity that can be used up.
    is_bounded: bool = True
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
    #: What dead workers had not exported yet, by `otel.signal`.
    export_lost: Mapping[str, int]


def utilization(before: PoolSample, after: PoolSample) -> float | None:
    """Return the busy share of all slots between two samples, 0 to 1; None without a bound on slots."""
    capacity_ns = after.capacity_ns - before.capacity_ns
    if capacity_ns <= 0:
        return None
    return round(min((after.busy_ns - before.busy_ns) / capacity_ns, 1.0), 4)


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
        self._export_lost = {"traces": 0, "logs": 0}
        self._busy_ns = 0
        self._capacity_ns = 0
        self._capacity_until_ns = time.monotonic_ns()

    def reshape(self, shape: PoolShape) -> None:
        """Take over the shape of a reload; old workers keep the scoreboard that they have."""
        scoreboard = self._scoreboards[-1]
        self._shape = shape
        if not _fits(scoreboard, shape) or shape.workers > scoreboard.blocks // 2:
            self._add_scoreboard()

    def open_place(self) -> Place | None:
        """Return the place of a worker that is about to be forked; None if memory for it is refused."""
        self._add_capacity()
        self._started += 1
        number = next(n for n in range(len(self._places) + 1) if n not in self._places)
        for scoreboard in [*self._scoreboards][::-1]:
            block = scoreboard.take_block(number) if _fits(scoreboard, self._shape) else None
            if block is not None:
                break
        else:
            try:
                scoreboard = self._add_scoreboard()
            except OSError:
                return None
            block = scoreboard.take_block(number)
        if block is None:
            return None
        self._places[number] = place = Place(scoreboard, block, number)
        return place

    def scoreboards(self) -> list[Scoreboard]:
        """Return the scoreboards that are in use, the one for new workers last."""
        return [*self._scoreboards]

    def close_descriptors(self) -> None:
        """Close the scoreboards' memfds, in a child of the arbiter that is no worker."""
        for scoreboard in self._scoreboards:
            scoreboard.memory.close_descriptors()

    def _add_scoreboard(self) -> Scoreboard:
        scoreboard = _scoreboard(self._shape)
        # What is switched is switched for new workers, too.
        scoreboard.write_switches(self._scoreboards[-1].read_switches())
        self._scoreboards.append(scoreboard)
        return scoreboard

    def close_place(self, place: Place | None, cause: str) -> None:
        """Count a worker's death and take its place back; None if it had none."""
        self._deaths.setdefault(cause, 0)
        self._deaths[cause] += 1
        if place is None:
            return
        self._add_capacity()
        busy_ns = place.scoreboard.counters.busy_ns(place.block)
        counts = place.counts().tolist()
        spans, logs = place.words()[QUEUED_SPANS], place.words()[QUEUED_LOGS]
        # A `map` is lazy: the assignment below adds, in C.
        sums = map(add, self._closed_counts, counts)
        # No calls below: a signal handler must never see this worker counted twice, or not at all.
        self._closed_counts[:] = sums
        self._closed_busy_ns += busy_ns
        self._export_lost["traces"] += spans
        self._export_lost["logs"] += logs
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
            dict(self._export_lost),
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


def _fits(scoreboard: Scoreboard, shape: PoolShape) -> bool:
    return (
        scoreboard.slots == shape.slots
        and scoreboard.is_bounded == shape.is_bounded
        and scoreboard.has_queues == shape.has_queues
    )


def _scoreboard(shape: PoolShape) -> Scoreboard:
    """Return a scoreboard with room for every worker that TTIN is likely to start.

    Raises:
        OSError: the system refuses even a small one.
    """
    fit = USUAL_SIZE // layout.layout_of(1, shape.slots).size
    blocks = max(LEAST_BLOCKS, 4 * shape.workers, min(MOST_BLOCKS, fit))
    try:
        return _scoreboard_of(blocks, shape)
    except OSError:
        # `ulimit -v`: the address space is limited. A full scoreboard is followed by another.
        return _scoreboard_of(shape.workers, shape)


def _scoreboard_of(blocks: int, shape: PoolShape) -> Scoreboard:
    return Scoreboard(blocks, shape.slots, is_bounded=shape.is_bounded, has_queues=shape.has_queues)
