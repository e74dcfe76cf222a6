"""The page of shared memory where workers note what they are doing and the arbiter reads it.

Made in the arbiter before the first fork, nameless (`mmap.mmap(-1, ...)`): nothing is left behind,
whatever is killed. The arbiter gives each worker a block; a block has one slot for each request that
its worker can serve at once.

A block::

      0  uint64  pid of the worker; 0 = free. Written by the arbiter, then by the worker
     64  slots

A slot of 2048 bytes; the first part is written by the thread that serves the request, the second by
the worker's watchdog, nobody else writes::

      0  uint64  sequence of the request part
      8  uint8   state: 0 idle, 1 open, 2 its line is being written
      9  uint8   1 if the trace is exported
     16  uint64  ident of the serving thread
     24  uint64  opened at, monotonic ns
     32  uint64  opened at, ns since the epoch
     40  texts of `REQUEST_TEXTS`, each ended by a zero byte
   1400  uint64  the sequence again
   1408  uint32  queries so far, outside the sequence
   1416  uint64  sequence of the watchdog's part; 0 = it has nothing to say
   1424  texts of `WATCH_TEXTS`, each ended by a zero byte
   2040  uint64  the sequence again

A part is replaced by one slice assignment, never by `struct.pack_into`, which writes zeros first. A
writer killed in the middle of one leaves two sequences that differ: the reader can tell.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass

BLOCK_HEAD = 64
SLOT = 2048
REQUEST_END = 1408
WATCH_START = 1416

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
    "route": 200,
    "view": 160,
}
#: What the watchdog found when it looked at the request.
WATCH_TEXTS = {"after_s": 12, "loc": 290, "cause_loc": 290}

_HEAD = struct.Struct("<QBB6xQQQ")
_SEQUENCE = struct.Struct("<Q")
_QUERIES = struct.Struct("<I")
_STATE = 8
_QUERIES_AT = 1408
_REQUEST_TEXT_ROOM = REQUEST_END - _SEQUENCE.size - _HEAD.size
_WATCH_TEXT_ROOM = SLOT - WATCH_START - 2 * _SEQUENCE.size


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request that a slot shows as open."""

    thread_id: int
    started_ns: int
    started_wall_ns: int
    is_exported: bool
    queries: int
    #: By the names of `REQUEST_TEXTS`; what is unknown is empty.
    texts: dict[str, str]
    #: By the names of `WATCH_TEXTS`; None if the watchdog has not looked, or was killed writing.
    watched: dict[str, str] | None


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

    def write(
        self,
        *,
        thread_id: int,
        started_ns: int,
        started_wall_ns: int,
        is_exported: bool,
        texts: Sequence[str],
    ) -> None:
        """Show a request as open. `texts` in the order of `REQUEST_TEXTS`; too long ones are cut."""
        self._sequence += 1
        sequence = _SEQUENCE.pack(self._sequence)
        head = _HEAD.pack(
            self._sequence, OPEN, is_exported, thread_id, started_ns, started_wall_ns
        )
        text = _packed(texts, REQUEST_TEXTS.values(), _REQUEST_TEXT_ROOM)
        at = self._at
        self._memory[at : at + REQUEST_END] = head + text + sequence

    def open(self, **request: object) -> None:
        """Show a new request, of which nothing has been counted or watched yet."""
        at = self._at
        self._memory[at + _QUERIES_AT : at + _QUERIES_AT + 4] = b"\0\0\0\0"
        self._memory[at + WATCH_START : at + WATCH_START + 8] = bytes(8)
        self.write(**request)  # type: ignore[arg-type]

    def set_state(self, state: int) -> None:
        """Change the state alone: one byte, which can't be torn."""
        at = self._at + _STATE
        self._memory[at : at + 1] = bytes((state,))

    def set_queries(self, count: int) -> None:
        """Note how many queries the request has made."""
        at = self._at + _QUERIES_AT
        self._memory[at : at + 4] = _QUERIES.pack(min(count, 0xFFFFFFFF))

    def write_watched(self, texts: Sequence[str]) -> None:
        """Note what the watchdog found; `texts` in the order of `WATCH_TEXTS`."""
        sequence = _SEQUENCE.pack(self._sequence or 1)
        text = _packed(texts, WATCH_TEXTS.values(), _WATCH_TEXT_ROOM)
        at = self._at + WATCH_START
        self._memory[at : self._at + SLOT] = sequence + text + sequence

    def state(self) -> int:
        """Return the state of the slot."""
        return self._memory[self._at + _STATE]

    def read(self) -> OpenRequest | None:
        """Return the request that the slot shows, None if it shows none.

        A torn slot (its writer was killed within a memcpy) is returned as far as it was written.
        """
        slot = self._memory[self._at : self._at + SLOT]
        _, state, exported, thread_id, started_ns, started_wall_ns = _HEAD.unpack_from(slot)
        if state != OPEN:
            return None
        return OpenRequest(
            thread_id=thread_id,
            started_ns=started_ns,
            started_wall_ns=started_wall_ns,
            is_exported=bool(exported),
            queries=_QUERIES.unpack_from(slot, _QUERIES_AT)[0],
            texts=_unpacked(slot[_HEAD.size : REQUEST_END], list(REQUEST_TEXTS)),
            watched=_watched(slot[WATCH_START:]),
        )

    def is_torn(self) -> bool:
        """Return whether a write of the request's part was cut short, or is under way."""
        slot = self._memory[self._at : self._at + REQUEST_END]
        return slot[:8] != slot[-8:]


def _packed(texts: Sequence[str], limits: Collection[int], room: int) -> bytes:
    packed = "\0".join(texts).encode("utf-8", "replace")
    if len(packed) >= room or packed.count(0) != len(limits) - 1:
        packed = b"\0".join(
            text.encode("utf-8", "replace")[:limit].replace(b"\0", b" ")
            for text, limit in zip(texts, limits, strict=True)
        )
    return packed.ljust(room, b"\0")


def _unpacked(packed: bytes, names: Sequence[str]) -> dict[str, str]:
    texts = packed.split(b"\0")
    # A text may have been cut inside a character.
    return {name: text.decode("utf-8", "ignore") for name, text in zip(names, texts, strict=False)}


def _watched(part: bytes) -> dict[str, str] | None:
    sequence, again = part[:8], part[-8:]
    if sequence != again or sequence == bytes(8):
        return None
    return _unpacked(part[8:-8], list(WATCH_TEXTS))
