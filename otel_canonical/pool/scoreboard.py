"""The scoreboard: shared memory where workers show their open requests, and the arbiter reads them.

Made in the arbiter before the first fork; `memory` says of what, `layout` where each part is. The arbiter
gives each worker a block. A block has one slot for each request that its worker can serve at once. The
commands of `otel-canonical` read it all from outside.
"""

from __future__ import annotations

import json
import os
import struct
import time
from typing import Any, NamedTuple

from otel_canonical._version import __version__
from otel_canonical.pool import layout
from otel_canonical.pool.counters import NUMBER, PID, RESERVED, STARTED_NS, USED_SLOTS, Counters
from otel_canonical.pool.layout import (
    BACKLOG,
    BACKLOG_SEEN_NS,
    FACTS_GENERATION,
    FACTS_SIZE,
    SWITCHES_GENERATION,
    SWITCHES_SIZE,
    USED_BLOCKS,
    WORD,
    WORKERS,
)
from otel_canonical.pool.memory import SharedMemory
from otel_canonical.pool.slots import IDLE, Slot

#: A backlog is shown for this long: the arbiter reads it once a second unless it reloads or stops.
FRESH_NS = 5_000_000_000

#: The words `BACKLOG` to `USED_BLOCKS`.
_STATE = struct.Struct("=4q")
_STATE_AT = BACKLOG * WORD
_STATE_END = _STATE_AT + _STATE.size

#: So many states of the pool are remembered, until the arbiter writes its words again: each second.
STATES_REMEMBERED = 512
_NEVER_NS = 1 << 63

#: What was seen of the words above, until when that holds, where the counts of the blocks are (active, and
#: waiting if there are such), the states by these counts, the workers, and the backlog if it is fresh.
_Seen = tuple[bytes, int, slice, "slice | None", "dict[bytes, PoolState]", int, "int | None"]


class PoolState(NamedTuple):
    """How full the pool is at one moment; `backlog` is None where it isn't known."""

    workers: int
    active_workers: int
    #: None for worker classes without a bound on concurrent requests.
    slots: int | None
    active_slots: int
    backlog: int | None
    #: Accepted by a worker but not served by a thread yet; None for worker classes that don't queue.
    waiting: int | None = None


class Scoreboard:
    """Blocks for workers, slots for requests.

    Args:
        blocks: how many workers at once, old ones of a reload included. Untouched memory costs nothing.
        slots: how many requests of one worker are shown at once.
        is_bounded: whether a worker never serves more than that.
        has_queues: whether workers accept requests before they have a thread for them.

    Raises:
        OSError: the system has no such memory, not even untouched.
    """

    def __init__(
        self, blocks: int, slots: int, *, is_bounded: bool = True, has_queues: bool = False
    ) -> None:
        self.slots = slots
        self.blocks = blocks
        self.is_bounded = is_bounded
        self.has_queues = has_queues
        self.layout = layout.layout_of(blocks, slots)
        self.memory = SharedMemory(layout.MEMFD_NAME, self.layout.size)
        self._bytes = self.memory.bytes
        self.counters = Counters(self.memory, self.layout)
        self._active, self._waiting = self.counters.active, self.counters.waiting
        self._seen = self._look(bytes(_STATE.size), 0)
        words = self.memory.words
        self._words = words[: layout.HEAD_SIZE // WORD]
        #: One word, which changes when `otel-canonical set` has changed something.
        self.switches_generation = words[SWITCHES_GENERATION : SWITCHES_GENERATION + 1]
        head = layout.IDENTITY.pack(layout.MAGIC, layout.VERSION, __version__.encode()[:32])
        head += layout.GEOMETRY.pack(os.getpid(), blocks, slots, is_bounded, has_queues)
        self._bytes[: len(head)] = head

    def take_block(self, number: int = 0) -> int | None:
        """Reserve a free block and return it (arbiter, before a fork); None if all are taken.

        Args:
            number: of its worker in the pool.
        """
        for block in range(self.blocks):
            words = self.counters.of_block(block)
            if words[PID]:
                continue
            # It has no owner: close what a dead worker has left open.
            for slot in self.slots_of(block):
                slot.set_state(IDLE)
            self.counters.clear(block)
            words[NUMBER], words[STARTED_NS] = number, time.monotonic_ns()
            words[PID] = RESERVED
            # No calls between reading and writing: a signal handler may free a block.
            head = self._words
            head[WORKERS] += 1
            if head[USED_BLOCKS] <= block:
                head[USED_BLOCKS] = block + 1
            return block
        return None

    def free_block(self, block: int) -> None:
        """Free a block (arbiter, after its worker's death). Its counts stay readable."""
        words = self.counters.of_block(block)
        self._waiting[block] = self._active[block] = 0
        head = self._words
        if words[PID]:
            words[PID] = 0
            head[WORKERS] -= 1
        used = head[USED_BLOCKS]
        while used and not self.counters.of_block(used - 1)[PID]:
            used -= 1
        head[USED_BLOCKS] = used

    def new_slot(self, block: int) -> Slot | None:
        """Return a slot of a block that was never used (its worker); None if all were."""
        words = self.counters.of_block(block)
        # No call between reading and writing: several threads may come.
        number = words[USED_SLOTS]
        words[USED_SLOTS] = number + 1
        if number >= self.slots:
            words[USED_SLOTS] = self.slots
            return None
        return self._slot(block, number)

    def slots_of(self, block: int) -> list[Slot]:
        """Return the slots of a block that were ever used, for the arbiter to read."""
        return [self._slot(block, number) for number in range(self.counters.used_slots(block))]

    def open_routes(self) -> list[str]:
        """Return the route of each open request of the pool; empty for one without a route."""
        found = []
        for block in range(self._words[USED_BLOCKS]):
            # A block that is free or about to be forked holds what a dead worker has left.
            if self.counters.of_block(block)[PID] in (0, RESERVED):
                continue
            for slot in self.slots_of(block):
                route = slot.open_route()
                if route is not None:
                    found.append(route)
        return found

    def _slot(self, block: int, number: int) -> Slot:
        where = self.layout
        return Slot(
            self.memory,
            where.slot_at(block, number),
            where.busy_at + WORD * (block * self.slots + number),
            where.active_at + WORD * block,
        )

    def set_backlog(self, connections: int | None, seen_ns: int) -> None:
        """Show how many connections wait to be accepted (arbiter); None if that is unknown."""
        self._words[BACKLOG] = 0 if connections is None else connections + 1
        self._words[BACKLOG_SEEN_NS] = seen_ns

    def pool_state(self, now_ns: int) -> PoolState:
        """Return how full the pool is now. A backlog read longer than `FRESH_NS` ago is left out.

        It is the same object as before if nothing has changed, as it is for most requests.
        """
        memory = self._bytes
        head = memory[_STATE_AT:_STATE_END]
        seen = self._seen
        if head != seen[0] or now_ns >= seen[1]:
            seen = self._seen = self._look(head, now_ns)
        _, _, active, waiting, states, _, _ = seen
        counts = memory[active]
        if waiting is not None:
            counts += memory[waiting]
        try:
            return states[counts]
        except KeyError:
            return self._new_state(seen, counts)

    def _look(self, head: bytes, now_ns: int) -> _Seen:
        known, seen_ns, workers, used = _STATE.unpack(head)
        stale_ns = seen_ns + FRESH_NS
        is_fresh = bool(known) and now_ns < stale_ns
        active_at, waiting_at, size = self.layout.active_at, self.layout.waiting_at, WORD * used
        return (
            head,
            stale_ns if is_fresh else _NEVER_NS,
            slice(active_at, active_at + size),
            slice(waiting_at, waiting_at + size) if self.has_queues else None,
            {},
            workers,
            known - 1 if is_fresh else None,
        )

    def _new_state(self, seen: _Seen, counts: bytes) -> PoolState:
        _, _, active, _, states, workers, backlog = seen
        words = memoryview(counts).cast("q").tolist()
        used = (active.stop - active.start) // WORD
        state = PoolState(
            workers,
            used - words[:used].count(0),
            workers * self.slots if self.is_bounded else None,
            sum(words[:used]),
            backlog,
            sum(words[used:]) if self.has_queues else None,
        )
        if len(states) >= STATES_REMEMBERED:
            states.clear()
        states[counts] = state
        return state

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Show the arbiter's facts of the pool to the commands.

        Raises:
            ValueError: they don't fit.
        """
        self._write(self.layout.facts_at, FACTS_SIZE, FACTS_GENERATION, facts)

    def write_switches(self, switches: dict[str, Any]) -> None:
        """Replace what `otel-canonical set` has switched.

        Raises:
            ValueError: it doesn't fit.
        """
        self._write(self.layout.switches_at, SWITCHES_SIZE, SWITCHES_GENERATION, switches)

    def read_switches(self) -> dict[str, Any]:
        """Return what is switched, by name.

        Raises:
            ValueError: it was being written; the next look will do.
        """
        at = self.layout.switches_at + (self._words[SWITCHES_GENERATION] & 1) * SWITCHES_SIZE
        text = layout.unframed(self._bytes[at : at + SWITCHES_SIZE])
        return json.loads(text) if text else {}

    def _write(self, at: int, size: int, generation: int, content: dict[str, Any]) -> None:
        framed = layout.framed(json.dumps(content, separators=(",", ":")).encode(), size)
        following = self._words[generation] + 1
        at += (following & 1) * size
        # The valid buffer is never written to: a reader sees the old text or the new one.
        self._bytes[at : at + len(framed)] = framed
        self._words[generation] = following
