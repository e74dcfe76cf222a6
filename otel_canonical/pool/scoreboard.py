"""The scoreboard: shared memory where workers show their open requests and the arbiter reads them.

Made in the arbiter before the first fork, without a name (`mmap.mmap(-1, ...)`): nothing is left behind,
whatever is killed. The arbiter gives each worker a block. A block has one slot for each request that its
worker can serve at once.

It begins with a table that one read copies as a whole, for the state of the pool::

      0  uint64  connections waiting to be accepted, plus 1; 0 = not known. By the arbiter
      8  uint64  when that was seen, monotonic ns
     16  uint8   for each block: 1 if it has a worker. By the arbiter
      …  uint8   for each slot of each block: its state, `IDLE`, `OPEN` or `CLOSING`. By its owner

Then come the counters (`counters`), then the blocks with their slots (`slots`).
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

from otel_canonical.pool import counters
from otel_canonical.pool.counters import Counters
from otel_canonical.pool.slots import IDLE, SLOT, Slot

TABLE_HEAD = 16

#: A backlog is shown for this long: the arbiter reads it once a second unless it reloads or stops.
FRESH_NS = 5_000_000_000

_BACKLOG = struct.Struct("<QQ")


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
    """

    def __init__(
        self, blocks: int, slots: int, *, is_bounded: bool = True, has_queues: bool = False
    ) -> None:
        self.slots = slots
        self.blocks = blocks
        self.is_bounded = is_bounded
        self._has_queues = has_queues
        self._states_at = TABLE_HEAD + blocks
        self._table_end = self._states_at + blocks * slots
        words_at = (self._table_end + 7) & ~7
        self._slots_at = words_at + counters.size_of(blocks, slots)
        self._memory = mmap.mmap(-1, self._slots_at + blocks * slots * SLOT)
        self.counters = Counters(self._memory, words_at, blocks, slots)
        #: All of it as 4-byte numbers: everything behind the table is aligned.
        self._halves = memoryview(self._memory).cast("I")

    def take_block(self) -> int | None:
        """Reserve a free block and return its number (arbiter, before a fork); None if all are taken."""
        number = self._memory.find(b"\0", TABLE_HEAD, self._states_at) - TABLE_HEAD
        if number < 0:
            return None
        # It has no owner yet: close what a dead worker has left open.
        states = self._states_at + number * self.slots
        self._memory[states : states + self.slots] = bytes(self.slots)
        self.counters.clear(number)
        self._memory[TABLE_HEAD + number : TABLE_HEAD + number + 1] = b"\1"
        return number

    def free_block(self, number: int) -> None:
        """Free a block (arbiter, after its worker's death). Its counts stay readable."""
        self.counters.waiting[number] = 0
        states = self._states_at + number * self.slots
        self._memory[states : states + self.slots] = bytes(self.slots)
        self._memory[TABLE_HEAD + number : TABLE_HEAD + number + 1] = b"\0"

    def slots_of(self, number: int) -> list[Slot]:
        """Return the slots of a block, for its worker to write or the arbiter to read."""
        first = number * self.slots
        return [
            Slot(
                *(self._memory, self._halves, self._slots_at + n * SLOT),
                *(self._states_at + n, self.counters.busy, n),
            )
            for n in range(first, first + self.slots)
        ]

    def set_backlog(self, connections: int | None, seen_ns: int) -> None:
        """Show how many connections wait to be accepted (arbiter); None if that is unknown."""
        known = 0 if connections is None else connections + 1
        self._memory[0:16] = _BACKLOG.pack(known, seen_ns)

    def pool_state(self, now_ns: int) -> PoolState:
        """Return how full the pool is now. A backlog read longer than `FRESH_NS` ago is left out."""
        end = self._table_end
        table = self._memory[:end]
        slots, states_at = self.slots, self._states_at
        workers = table.count(1, TABLE_HEAD, states_at)
        active_slots = end - states_at - table.count(IDLE, states_at)
        if slots == 1:
            active_workers = active_slots
        else:
            idle = bytes(slots)
            # No block behind the last worker's is in use.
            last = table.rfind(1, TABLE_HEAD, states_at) + 1 - TABLE_HEAD
            rows = range(states_at, states_at + max(last, 0) * slots, slots)
            active_workers = sum([table[row : row + slots] != idle for row in rows])
        waiting = None
        if self._has_queues:
            last = table.rfind(1, TABLE_HEAD, states_at) + 1 - TABLE_HEAD
            waiting = sum(self.counters.waiting[: max(last, 0)])
        known, seen_ns = _BACKLOG.unpack_from(table)
        is_fresh = known and now_ns - seen_ns < FRESH_NS
        return PoolState(
            workers,
            active_workers,
            workers * slots if self.is_bounded else None,
            active_slots,
            known - 1 if is_fresh else None,
            waiting,
        )
