"""The page of shared memory where workers note what they are doing and the arbiter reads it.

Made in the arbiter before the first fork, nameless (`mmap.mmap(-1, ...)`): nothing is left behind,
whatever is killed. The arbiter gives each worker a block; a block has one slot for each request that
its worker can serve at once.

A block::

      0  uint64  pid of the worker; 0 = free. Written by the arbiter, then by the worker
     64  slots

A slot of 2688 bytes. Three parts, each replaced by one slice assignment (never by `struct.pack_into`,
which writes zeros first)::

      0  uint64  sequence
      8  uint8   state: 0 idle, 1 open, 2 its line is being written
      9  uint8   1 if the trace is exported
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

BLOCK_HEAD = 64
SLOT = 2688
ROUTE_START = 1064
WATCH_START = 2048

IDLE, OPEN, CLOSING = 0, 1, 2

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
_LENGTH = struct.Struct("<H")
_QUERIES = struct.Struct("<I")
_STATE_AT = 8
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
    queries: int
    #: By the names of `REQUEST_TEXTS` and `ROUTE_TEXTS`; what is unknown is empty or not there.
    texts: dict[str, str]
    #: By the names of `WATCH_TEXTS`; empty if the watchdog has not looked.
    watched: dict[str, str]


class SharedPage:
    """Blocks for workers, slots for requests.

    Args:
        blocks: workers at once, old ones of a reload included. Memory that nobody has touched costs
            nothing, so there may be plenty.
        slots: requests that one worker can serve at once.
    """

    def __init__(self, blocks: int, slots: int) -> None:
        self.slots = slots
        self._stride = BLOCK_HEAD + slots * SLOT
        self._blocks = blocks
        self._memory = mmap.mmap(-1, blocks * self._stride)

    def take_block(self) -> int | None:
        """Give out a free block (arbiter, before a fork); None if all are taken."""
        for number in range(self._blocks):
            if self.pid_of(number) == 0:
                start = number * self._stride
                # A block has no owner yet: whatever a dead one left is wiped, the slots' states first.
                self._memory[start : start + self._stride] = bytes(self._stride)
                self.set_pid(number, -1)
                return number
        return None

    def free_block(self, number: int) -> None:
        """Take a block back (arbiter, after its worker's death)."""
        self.set_pid(number, 0)

    def pid_of(self, number: int) -> int:
        """Return the pid in a block: 0 = free, -1 = its worker has not said yet."""
        start = number * self._stride
        return int(struct.unpack_from("<q", self._memory, start)[0])

    def set_pid(self, number: int, pid: int) -> None:
        """Write the pid of a block."""
        start = number * self._stride
        self._memory[start : start + 8] = struct.pack("<q", pid)

    def slots_of(self, number: int) -> list[Slot]:
        """Return the slots of a block, for its worker to write or the arbiter to read."""
        first = number * self._stride + BLOCK_HEAD
        return [Slot(self._memory, first + n * SLOT) for n in range(self.slots)]

    def close(self) -> None:
        """Unmap the page in this process."""
        self._memory.close()


class Slot:
    """The place of one request."""

    __slots__ = ("_at", "_memory", "_sequence")

    def __init__(self, memory: mmap.mmap, at: int) -> None:
        self._memory = memory
        self._at = at
        self._sequence = 0

    def open(
        self,
        thread_id: int,
        started_ns: int,
        started_wall_ns: int,
        is_exported: bool,
        texts: Sequence[str],
    ) -> None:
        """Show a new request. `texts` in the order of `REQUEST_TEXTS`; too long ones are cut."""
        self._sequence += 1
        packed = _packed(texts, _REQUEST_LIMITS)
        part = (
            _HEAD.pack(
                *(self._sequence, OPEN, is_exported, len(packed), 0, 0, 0),
                *(thread_id, started_ns, started_wall_ns),
            )
            + packed
            + _SEQUENCE.pack(self._sequence)
        )
        at = self._at
        self._memory[at : at + len(part)] = part

    def set_state(self, state: int) -> None:
        """Change the state alone: one byte, which can't be torn."""
        at = self._at + _STATE_AT
        self._memory[at : at + 1] = _STATES[state]

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
        return self._memory[self._at + _STATE_AT]

    def read(self) -> OpenRequest | None:
        """Return the request that the slot shows, None if it shows none.

        Of a torn slot (its writer was killed within a memcpy) the texts are not to be trusted.
        """
        slot = self._memory[self._at : self._at + SLOT]
        head = _HEAD.unpack_from(slot)
        _, state, exported, length, route_length, watch_length, queries = head[:7]
        if state != OPEN:
            return None
        texts = _unpacked(slot[_HEAD.size : _HEAD.size + length], REQUEST_TEXTS)
        texts |= _unpacked(slot[ROUTE_START : ROUTE_START + route_length], ROUTE_TEXTS)
        return OpenRequest(
            thread_id=head[7],
            started_ns=head[8],
            started_wall_ns=head[9],
            is_exported=bool(exported),
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


_STATES = (b"\0", b"\1", b"\2")


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
