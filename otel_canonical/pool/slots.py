"""A slot of the scoreboard: one open request, written by its worker, read by the arbiter.

A slot of 2688 bytes, its numbers in the machine's order. Three parts, each replaced by one slice
assignment (never by `struct.pack_into`, which writes zeros first)::

      0  uint64  sequence
      8  uint8   unused
      9  uint8   whether the trace is exported: `UNEXPORTED`, `EXPORTED`, or `KEPT` for a rule to say
     10  uint16  bytes of the request's texts
     12  uint16  bytes of the route's texts; 0 = not known yet
     14  uint16  bytes of the watchdog's texts; 0 = it has not looked
     16  uint32  queries so far; one store, never seen half written
     24  uint64  ident of the serving thread
     32  uint64  opened at, monotonic ns
     40  uint64  opened at, ns since the epoch
     48  `REQUEST_TEXTS`, zero bytes between them, then the sequence again
   1064  `ROUTE_TEXTS`
   2048  `WATCH_TEXTS`, written by the worker's watchdog; all else by the thread that serves

A writer that is killed in the middle of the first part leaves two different sequences. The lengths of
the other parts are written after their texts: an incomplete part is invisible.
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

#: The texts of a request, each with the most bytes that are kept.
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
#: Known once the URL is resolved. The path is here again, with secret parameters redacted.
ROUTE_TEXTS = {"route": 180, "view": 200, "path": 600}
#: Written by the watchdog when it samples the request's stack.
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
    """An open request, as its slot shows it."""

    thread_id: int
    started_ns: int
    started_wall_ns: int
    is_exported: bool
    #: Its spans are recorded; the operator's rule decides on their export at its end.
    is_kept: bool
    queries: int
    #: By the names in `REQUEST_TEXTS` and `ROUTE_TEXTS`; an unknown text is empty or absent.
    texts: dict[str, str]
    #: By the names in `WATCH_TEXTS`; empty if the watchdog has not looked.
    watched: dict[str, str]


class Slot:
    """One slot.

    Later writes pass the request's `started_ns` and are ignored if the slot has been reused: the
    watchdog, or a thread that the request has left behind, may come too late.

    Args:
        memory: the scoreboard.
        halves: the scoreboard again, as 4-byte numbers.
        at: where the slot begins, a multiple of 4.
        state_at: where its state byte is.
        busy: the busy-time counters of all slots.
        number: which of them is this slot's.
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
        #: When its present or last request was opened.
        self._started_ns = 0
        self._busy = busy
        self._number = number
        #: Its busy time before its present request.
        self._busy_ns = 0

    def open(
        self,
        thread_id: int,
        started_ns: int,
        started_wall_ns: int,
        export_mark: int,
        texts: Sequence[str],
    ) -> None:
        """Show a new request. `texts` are in the order of `REQUEST_TEXTS`, and cut to their limits."""
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
        """Free the slot; `now_ns` is monotonic."""
        # While busy the counter holds `total - started_ns`; adding `now_ns` makes it the total again.
        self._busy_ns = self._busy[self._number] = self._busy[self._number] + now_ns
        self._memory[self._state_at] = IDLE

    def set_state(self, state: int) -> None:
        """Change the state alone: one byte, one store."""
        self._memory[self._state_at] = state

    def set_queries(self, started_ns: int, count: int) -> None:
        """Show how many queries the request has made that was opened at `started_ns`."""
        # No calls below: the slot can't be reused in between.
        if self._started_ns == started_ns:
            self._halves[self._queries_at] = count & 0xFFFFFFFF

    def write_route(self, started_ns: int, texts: Sequence[str]) -> None:
        """Show what its URL was resolved to; `texts` are in the order of `ROUTE_TEXTS`."""
        self._write_part(started_ns, ROUTE_START, _ROUTE_LENGTH_AT, _packed(texts, _ROUTE_LIMITS))

    def write_watched(self, started_ns: int, texts: Sequence[str]) -> None:
        """Show what the watchdog saw; `texts` are in the order of `WATCH_TEXTS`."""
        self._write_part(started_ns, WATCH_START, _WATCH_LENGTH_AT, _packed(texts, _WATCH_LIMITS))

    def state(self) -> int:
        """Return the state of the slot."""
        return self._memory[self._state_at]

    def read(self) -> OpenRequest | None:
        """Return the request that the slot shows; None if it is free.

        A torn slot (its writer was killed in the middle of a copy) has no texts.
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
        """Return whether a write of the first part was cut short, or is under way."""
        slot = self._memory[self._at : self._at + ROUTE_START]
        end = _HEAD.size + _HEAD.unpack_from(slot)[3]
        return slot[:8] != slot[end : end + 8]

    def _write_part(self, started_ns: int, start: int, length_at: int, packed: bytes) -> None:
        start += self._at
        end = start + len(packed)
        length_at += self._at
        length = _LENGTH.pack(len(packed))
        # No calls below, as above.
        if self._started_ns == started_ns:
            self._memory[start:end] = packed
            self._memory[length_at : length_at + 2] = length


def _packed(texts: Sequence[str], limits: Sequence[int]) -> bytes:
    packed = "\0".join(texts).encode("utf-8", "replace")
    if len(packed) > limits[-1] or packed.count(0) != len(limits) - 1:
        # A text is too long, or holds a zero byte: cut or clean each of them.
        packed = b"\0".join(
            text.encode("utf-8", "replace")[:limit].replace(b"\0", b" ")
            for text, limit in zip(texts, limits, strict=True)
        )
    return packed


def _unpacked(packed: bytes, names: Iterable[str]) -> dict[str, str]:
    # A text may have been cut inside a character.
    texts = (text.decode("utf-8", "ignore") for text in packed.split(b"\0"))
    return dict(zip(names, texts, strict=False)) if packed else {}
