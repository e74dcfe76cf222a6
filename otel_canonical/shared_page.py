"""The page of shared memory where workers note what they are doing and the arbiter reads it.

Made in the arbiter before the first fork, nameless (`mmap.mmap(-1, ...)`): nothing is left behind,
whatever is killed. The arbiter gives each worker a block; a block has one slot for each request that
its worker can serve at once.

The page begins with a table that is read as a whole, for a pool's state at a glance::

      0  uint64  connections waiting to be accepted, plus 1; 0 = not known. By the arbiter
      8  uint64  when that was seen, monotonic ns
     16  uint8   for each block: 1 if it has a worker. By the arbiter
      …  uint8   for each slot of each block: its state, `IDLE`, `OPEN` or `CLOSING`. By its owner

Then the words, which `page_words` describes: what is counted and how long slots were busy. Then the
blocks, each of its slots.

A slot of 2688 bytes. Three parts, each replaced by one slice assignment (never by `struct.pack_into`,
which writes zeros first)::

      0  uint64  sequence
      8  uint8   unused
      9  uint8   whether the trace is exported: `UNEXPORTED`, `EXPORTED`, or `KEPT` for a rule to say
     10  uint16  bytes of the request's texts
     12  uint16  bytes of the route's texts; 0 = not known yet
     14  uint16  bytes of the watchdog's texts; 0 = it has not looked
     16  uint32  queries so far
     24  uint64  ident of the serving thread
     32  uint64  opened at, monotonic ns
     40  uint64  opened at, ns since the epoch
     48  `REQUEST_TEXTS`, zero bytes between them, then the sequence again
   1064  `ROUTE_TEXTS`
   2048  `WATCH_TEXTS`, written by the worker's watchdog; all else by the thread that serves

A writer killed in the middle of the first part leaves two sequences that differ. The lengths of the
other parts are written after their texts: a part that isn't complete isn't there.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from otel_canonical import page_words
from otel_canonical.page_words import PageWords

TABLE_HEAD = 16
SLOT = 2688
ROUTE_START = 1064
WATCH_START = 2048

IDLE, OPEN, CLOSING = 0, 1, 2
UNEXPORTED, EXPORTED, KEPT = 0, 1, 2

#: The arbiter looks at the backlog once a second, unless it is busy reloading or stopping.
FRESH_NS = 5_000_000_000

#: What a slot can say of a request, with the bytes that each text may take.
REQUEST_TEXTS = {
    "request_id": 128,
    "trace_id": 32,
    "span_id": 16,
    "caller_span_id": 16,
    "method": 16,
    "host": 128,
    "client": 45,
    "path": 600,
}
#: What is known once the URL is resolved; with the path again, without the secrets that it carried.
ROUTE_TEXTS = {"route": 180, "view": 200, "path": 600}
#: What the watchdog found when it looked at the request.
WATCH_TEXTS = {"after_s": 12, "loc": 290, "cause_loc": 290}

_HEAD = struct.Struct("<QBBHHHI4xQQQ")
_SEQUENCE = struct.Struct("<Q")
_BACKLOG = struct.Struct("<QQ")
_LENGTH = struct.Struct("<H")
_QUERIES = struct.Struct("<I")
_ROUTE_LENGTH_AT = 12
_WATCH_LENGTH_AT = 14
_QUERIES_AT = 16
_REQUEST_LIMITS = tuple(REQUEST_TEXTS.values())
_ROUTE_LIMITS = tuple(ROUTE_TEXTS.values())
_WATCH_LIMITS = tuple(WATCH_TEXTS.values())


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request that a slot shows as open."""

    thread_id: int
    started_ns: int
    started_wall_ns: int
    is_exported: bool
    #: Its spans were recorded, for the operator's rule to decide on at its end.
    is_kept: bool
    queries: int
    #: By the names of `REQUEST_TEXTS` and `ROUTE_TEXTS`; what is unknown is empty or not there.
    texts: dict[str, str]
    #: By the names of `WATCH_TEXTS`; empty if the watchdog has not looked.
    watched: dict[str, str]


class PoolState(NamedTuple):
    """How full the pool is at one moment; `backlog` is None where it isn't known."""

    workers: int
    active_workers: int
    #: None for worker classes without a bound on their requests.
    slots: int | None
    active_slots: int
    backlog: int | None
    #: Accepted by a worker, served by no thread yet; None for worker classes that don't queue.
    waiting: int | None = None


class SharedPage:
    """Blocks for workers, slots for requests.

    Args:
        blocks: workers at once, old ones of a reload included. Memory that nobody has touched costs
            nothing, so there may be plenty.
        slots: requests that one worker can serve at once.
        is_bounded: whether a worker never serves more.
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
        self._slots_at = words_at + page_words.size_of(blocks, slots)
        self._memory = mmap.mmap(-1, self._slots_at + blocks * slots * SLOT)
        self.words = PageWords(self._memory, words_at, blocks, slots)

    def take_block(self) -> int | None:
        """Give out a free block (arbiter, before a fork); None if all are taken."""
        number = self._memory.find(b"\0", TABLE_HEAD, self._states_at) - TABLE_HEAD
        if number < 0:
            return None
        # A block has no owner yet: whatever a dead one has left open is closed.
        states = self._states_at + number * self.slots
        self._memory[states : states + self.slots] = bytes(self.slots)
        self.words.clear(number)
        self._memory[TABLE_HEAD + number : TABLE_HEAD + number + 1] = b"\1"
        return number

    def free_block(self, number: int) -> None:
        """Take a block back (arbiter, after its worker's death); what it counted stays to be read."""
        self.words.waiting[number] = 0
        states = self._states_at + number * self.slots
        self._memory[states : states + self.slots] = bytes(self.slots)
        self._memory[TABLE_HEAD + number : TABLE_HEAD + number + 1] = b"\0"

    def slots_of(self, number: int) -> list[Slot]:
        """Return the slots of a block, for its worker to write or the arbiter to read."""
        first = number * self.slots
        return [
            Slot(self._memory, self._slots_at + n * SLOT, self._states_at + n, self.words.busy, n)
            for n in range(first, first + self.slots)
        ]

    def set_backlog(self, connections: int | None, seen_ns: int) -> None:
        """Note how many connections wait to be accepted (arbiter); None if nobody can tell."""
        known = 0 if connections is None else connections + 1
        self._memory[0:16] = _BACKLOG.pack(known, seen_ns)

    def pool_state(self, now_ns: int) -> PoolState:
        """Return how full the pool is now; a backlog seen longer than `FRESH_NS` ago isn't told."""
        end = self._table_end
        table = self._memory[:end]
        slots, states_at = self.slots, self._states_at
        workers = table.count(1, TABLE_HEAD, states_at)
        active_slots = end - states_at - table.count(IDLE, states_at)
        if slots == 1:
            active_workers = active_slots
        else:
            idle = bytes(slots)
            # Beyond the last worker there is nothing to see.
            last = table.rfind(1, TABLE_HEAD, states_at) + 1 - TABLE_HEAD
            rows = range(states_at, states_at + max(last, 0) * slots, slots)
            active_workers = sum([table[row : row + slots] != idle for row in rows])
        waiting = None
        if self._has_queues:
            last = table.rfind(1, TABLE_HEAD, states_at) + 1 - TABLE_HEAD
            waiting = sum(self.words.waiting[: max(last, 0)])
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


class Slot:
    """The place of one request."""

    __slots__ = ("_at", "_busy", "_busy_ns", "_memory", "_number", "_sequence", "_state_at")

    def __init__(
        self, memory: mmap.mmap, at: int, state_at: int, busy: memoryview[int], number: int
    ) -> None:
        self._memory = memory
        self._at = at
        self._state_at = state_at
        self._sequence = 0
        self._busy = busy
        self._number = number
        #: How long it has been busy before its present request.
        self._busy_ns = 0

    def open(
        self,
        thread_id: int,
        started_ns: int,
        started_wall_ns: int,
        export_mark: int,
        texts: Sequence[str],
    ) -> None:
        """Show a new request. `texts` in the order of `REQUEST_TEXTS`, cut if there is no room."""
        self._sequence = sequence = self._sequence + 1
        packed = _packed(texts, _REQUEST_LIMITS)
        size = len(packed)
        times = (thread_id, started_ns, started_wall_ns)
        head = _HEAD.pack(sequence, 0, export_mark, size, 0, 0, 0, *times)
        at = self._at
        self._memory[at : at + _HEAD.size + size + _SEQUENCE.size] = (
            head + packed + _SEQUENCE.pack(sequence)
        )
        self._memory[self._state_at] = OPEN
        self._busy[self._number] = self._busy_ns - started_ns

    def close(self, now_ns: int) -> None:
        """Show no request any more; `now_ns` is monotonic."""
        # What the word lacks is when the request was opened: the sum is all that it was busy.
        self._busy_ns = self._busy[self._number] = self._busy[self._number] + now_ns
        self._memory[self._state_at] = IDLE

    def set_state(self, state: int) -> None:
        """Change the state alone: one byte, which can't be torn."""
        self._memory[self._state_at] = state

    def set_queries(self, count: int) -> None:
        """Note how many queries the request has made."""
        at = self._at + _QUERIES_AT
        self._memory[at : at + 4] = _QUERIES.pack(min(count, 0xFFFFFFFF))

    def write_route(self, texts: Sequence[str]) -> None:
        """Note what the URL was resolved to; `texts` in the order of `ROUTE_TEXTS`."""
        self._write_part(ROUTE_START, _ROUTE_LENGTH_AT, _packed(texts, _ROUTE_LIMITS))

    def write_watched(self, texts: Sequence[str]) -> None:
        """Note what the watchdog found; `texts` in the order of `WATCH_TEXTS`."""
        self._write_part(WATCH_START, _WATCH_LENGTH_AT, _packed(texts, _WATCH_LIMITS))

    def state(self) -> int:
        """Return the state of the slot."""
        return self._memory[self._state_at]

    def read(self) -> OpenRequest | None:
        """Return the request that the slot shows, None if it shows none.

        Of a torn slot (its writer was killed within a memcpy) the texts are not to be trusted.
        """
        if self.state() != OPEN:
            return None
        slot = self._memory[self._at : self._at + SLOT]
        head = _HEAD.unpack_from(slot)
        _, _, exported, length, route_length, watch_length, queries = head[:7]
        texts = _unpacked(slot[_HEAD.size : _HEAD.size + length], REQUEST_TEXTS)
        texts |= _unpacked(slot[ROUTE_START : ROUTE_START + route_length], ROUTE_TEXTS)
        return OpenRequest(
            thread_id=head[7],
            started_ns=head[8],
            started_wall_ns=head[9],
            is_exported=exported == EXPORTED,
            is_kept=exported == KEPT,
            queries=queries,
            texts=texts if not self.is_torn() else {},
            watched=_unpacked(slot[WATCH_START : WATCH_START + watch_length], WATCH_TEXTS),
        )

    def is_torn(self) -> bool:
        """Return whether a write of the request's part was cut short, or is under way."""
        slot = self._memory[self._at : self._at + ROUTE_START]
        end = _HEAD.size + _HEAD.unpack_from(slot)[3]
        return slot[:8] != slot[end : end + 8]

    def _write_part(self, start: int, length_at: int, packed: bytes) -> None:
        at = self._at + start
        self._memory[at : at + len(packed)] = packed
        at = self._at + length_at
        self._memory[at : at + 2] = _LENGTH.pack(len(packed))


def _packed(texts: Sequence[str], limits: Sequence[int]) -> bytes:
    packed = "\0".join(texts).encode("utf-8", "replace")
    if len(packed) > limits[-1] or packed.count(0) != len(limits) - 1:
        # Perhaps one is too long, or holds a zero byte: then each for itself.
        packed = b"\0".join(
            text.encode("utf-8", "replace")[:limit].replace(b"\0", b" ")
            for text, limit in zip(texts, limits, strict=True)
        )
    return packed


def _unpacked(packed: bytes, names: Iterable[str]) -> dict[str, str]:
    # A text may have been cut inside a character.
    texts = (text.decode("utf-8", "ignore") for text in packed.split(b"\0"))
    return dict(zip(names, texts, strict=False)) if packed else {}
