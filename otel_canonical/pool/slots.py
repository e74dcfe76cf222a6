"""A slot of the scoreboard: the place of one open request, written by its worker, read by the arbiter.

A slot of 2688 bytes, its numbers in the machine's order. Three parts, each replaced by one slice
assignment (never by `struct.pack_into`, which writes zeros first)::

      0  uint64  sequence
      8  uint8   unused
      9  uint8   whether the trace is exported: `UNEXPORTED`, `EXPORTED`, or `KEPT` for a rule to say
     10  uint16  bytes of the request's texts
     12  uint16  bytes of the route's texts; 0 = not known yet
     14  uint16  bytes of the watchdog's texts; 0 = it has not looked
     16  uint32  queries so far: one store, never seen half written
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

SLOT = 2688
ROUTE_START = 1064
WATCH_START = 2048

IDLE, OPEN, CLOSING = 0, 1, 2
UNEXPORTED, EXPORTED, KEPT = 0, 1, 2

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

_HEAD = struct.Struct("=QBBHHHI4xQQQ")
_SEQUENCE = struct.Struct("=Q")
_LENGTH = struct.Struct("=H")
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


class Slot:
    """The place of one request.

    What is noted of one later says when that was opened: who comes too late, a thread that it has left
    behind or the watchdog, must not write into its successor.

    Args:
        memory: the scoreboard.
        halves: the scoreboard again, by halves of a word: 4 bytes each.
        at: where the slot begins, a multiple of 4.
        state_at: where its state is.
        busy: for how long each slot has been busy.
        number: which of these it is.
    """

    __slots__ = (
        *("_at", "_busy", "_busy_ns", "_memory", "_number", "_halves", "_queries_at"),
        *("_sequence", "_started_ns", "_state_at"),
    )

    def __init__(
        self,
        memory: mmap.mmap,
        halves: memoryview[int],
        at: int,
        state_at: int,
        busy: memoryview[int],
        number: int,
    ) -> None:
        self._memory = memory
        self._halves = halves
        self._queries_at = (at + _QUERIES_AT) // halves.itemsize
        self._at = at
        self._state_at = state_at
        self._sequence = 0
        #: When its present request was opened, or the last one.
        self._started_ns = 0
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
        self._started_ns = started_ns
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

    def set_queries(self, started_ns: int, count: int) -> None:
        """Note how many queries the request has made that was opened at `started_ns`."""
        # Nothing is called from here on: no other request is opened in between.
        if self._started_ns == started_ns:
            self._halves[self._queries_at] = count & 0xFFFFFFFF

    def write_route(self, started_ns: int, texts: Sequence[str]) -> None:
        """Note what its URL was resolved to; `texts` in the order of `ROUTE_TEXTS`."""
        self._write_part(started_ns, ROUTE_START, _ROUTE_LENGTH_AT, _packed(texts, _ROUTE_LIMITS))

    def write_watched(self, started_ns: int, texts: Sequence[str]) -> None:
        """Note what the watchdog found of it; `texts` in the order of `WATCH_TEXTS`."""
        self._write_part(started_ns, WATCH_START, _WATCH_LENGTH_AT, _packed(texts, _WATCH_LIMITS))

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

    def _write_part(self, started_ns: int, start: int, length_at: int, packed: bytes) -> None:
        start += self._at
        end = start + len(packed)
        length_at += self._at
        length = _LENGTH.pack(len(packed))
        # Nothing is called from here on, as above.
        if self._started_ns == started_ns:
            self._memory[start:end] = packed
            self._memory[length_at : length_at + 2] = length


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
