"""A slot of the scoreboard: one open request, written by its worker, read by the arbiter and the commands.

A slot of `SLOT` bytes, its numbers in the machine's order. Its parts are replaced by one slice assignment
each (never by `struct.pack_into`, which writes zeros first)::

      0  uint64  sequence
      8  uint8   state: `IDLE`, `OPEN` or `CLOSING`
      9  uint8   whether the trace is exported: `UNEXPORTED`, `EXPORTED`, or `KEPT` for a rule to say
     10  uint16  bytes of the request's texts
     12  uint16  bytes of the route's texts; 0 = not known yet
     14  uint16  bytes of the watchdog's texts; 0 = it has not looked
     16  uint32  queries that have ended
     20  uint32  the number of the last query's SQL, see `query_texts`; 0 = none
     24  uint64  ident of the serving thread
     32  uint64  opened at, monotonic ns
     40  uint64  opened at, ns since the epoch
     48  int64   waiting since, monotonic ns: positive for a query, negative for `system`; 0 = not waiting
     56  uint32  the number of the text that names the called `system`, as for SQL
     60  uint16  bytes of the user's text; 0 = not known
     62  uint16  status of the response whose head was sent; 0 = none was
     64  `REQUEST_TEXTS`, zero bytes between them, then the sequence again
   1064  `ROUTE_TEXTS`
   2048  `WATCH_TEXTS`, written by the worker's watchdog; all else by the thread that serves
   2656  `USER_TEXTS`

A writer that is killed in the middle of the first part leaves two different sequences. The lengths of
the other parts are written after their texts: an incomplete part is invisible.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence

from otel_canonical.pool.layout import SLOT, WORD
from otel_canonical.pool.memory import SharedMemory
from otel_canonical.pool.open_request import OpenRequest
from otel_canonical.pool.slot_texts import cut, packed, unpacked

REQUEST_START = 64
ROUTE_START = 1064
WATCH_START = 2048
USER_START = 2656

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
#: Known once the URL is resolved. The path is here again if it has parameters, with secret ones redacted.
ROUTE_TEXTS = {"route": 180, "view": 200, "path": 600}
#: Written by the watchdog when it samples the request's stack.
WATCH_TEXTS = {"after_s": 12, "loc": 290, "cause_loc": 290}
#: Known once the app has looked its user up.
USER_TEXTS = {"user": 128}

#: The head as `Slot.open` writes it: what is not known yet is 0.
#: In the machine's own alignment, which is the same here and is packed faster.
_OPENING = struct.Struct("@QBBH12xQQQ16x")
_HEAD = struct.Struct("=QBBHHHIIQQQqIHH")
_LENGTH = struct.Struct("=H")
_STATE_AT = 8
_ROUTE_LENGTH_AT = 12
_WATCH_LENGTH_AT = 14
_QUERIES_AT = 16
_SQL_AT = 20
_SINCE_AT = 48
_SYSTEM_AT = 56
_USER_LENGTH_AT = 60
_STATUS_AT = 62
_REQUEST_LIMITS = tuple(REQUEST_TEXTS.values())
_ROUTE_LIMITS = tuple(ROUTE_TEXTS.values())
_WATCH_LIMITS = tuple(WATCH_TEXTS.values())
_USER_LIMITS = tuple(USER_TEXTS.values())


class Slot:
    """One slot.

    Later writes pass the request's `started_ns` and are ignored if the slot has been reused: the
    watchdog, or a thread that the request has left behind, may come too late.

    `django.queries` shows a query itself, without calls, as `begin_query` and `set_queries` do;
    `servers.gunicorn` shows a response's status so, as `set_status` does.

    Args:
        memory: the scoreboard.
        at: where the slot begins, a multiple of 8.
        busy_at: where the counter of its busy time is.
        active_at: where the worker's count of open slots is.
    """

    __slots__ = (
        *("_active_at", "_at", "_busy_at", "_busy_ns", "_sequence", "_system_at"),
        *("_route_at", "_route_length_at"),
        *("halves", "memory", "quarters", "queries_at", "since_at", "sql_at", "sql_texts"),
        *("started_ns", "state_at", "status_at", "words"),
    )

    def __init__(self, memory: SharedMemory, at: int, busy_at: int, active_at: int) -> None:
        self.memory = memory.bytes
        self.quarters = memory.quarters
        self.halves = memory.halves
        self.words = memory.words
        self._at = at
        self.state_at = at + _STATE_AT
        self.queries_at = (at + _QUERIES_AT) // 4
        self.sql_at = (at + _SQL_AT) // 4
        self._system_at = (at + _SYSTEM_AT) // 4
        self.since_at = (at + _SINCE_AT) // 8
        self.status_at = (at + _STATUS_AT) // 2
        self._route_at = at + ROUTE_START
        self._route_length_at = (at + _ROUTE_LENGTH_AT) // 2
        self._busy_at = busy_at // 8
        self._active_at = active_at // 8
        self._sequence = 0
        #: When its present or last request was opened.
        self.started_ns = 0
        #: Numbers of SQL texts, in a worker.
        self.sql_texts: Mapping[str, int] = {}
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
        self.started_ns = started_ns
        self._sequence = sequence = self._sequence + 1
        request_id, trace_id, span_id, caller_id, method, host, client, path = texts
        content = "\0".join(texts).encode("utf-8", "replace")
        # One by one: to count the zero bytes of all takes longer.
        if (
            len(content) > _REQUEST_LIMITS[-1]
            or "\0" in path
            or "\0" in host
            or "\0" in client
            or "\0" in method
            or "\0" in request_id
            or "\0" in trace_id
            or "\0" in span_id
            or "\0" in caller_id
        ):
            content = cut(texts, _REQUEST_LIMITS)
        size = len(content)
        head = _OPENING.pack(
            sequence, OPEN, export_mark, size, thread_id, started_ns, started_wall_ns
        )
        at = self._at
        # The sequence is the first word of the head.
        self.memory[at : at + REQUEST_START + size + WORD] = head + content + head[:WORD]
        words = self.words
        words[self._busy_at] = self._busy_ns - started_ns
        # No call between reading and writing: threads of the worker count in the same word.
        words[self._active_at] += 1

    def close(self, now_ns: int) -> None:
        """Free the slot; `now_ns` is monotonic."""
        words = self.words
        # While busy the counter holds `total - started_ns`; adding `now_ns` makes it the total again.
        self._busy_ns = words[self._busy_at] = words[self._busy_at] + now_ns
        self.memory[self.state_at] = IDLE
        words[self._active_at] -= 1

    def set_state(self, state: int) -> None:
        """Change the state alone: one byte, one store."""
        self.memory[self.state_at] = state

    def begin_query(self, started_ns: int, now_ns: int, sql_number: int) -> None:
        """Show that the request has begun a query at `now_ns` (monotonic)."""
        if self.started_ns == started_ns:
            self.halves[self.sql_at] = sql_number
            self.words[self.since_at] = now_ns

    def set_queries(self, started_ns: int, count: int) -> None:
        """Show how many queries have ended of the request that was opened at `started_ns`."""
        # No calls below: the slot can't be reused in between.
        if self.started_ns == started_ns:
            self.halves[self.queries_at] = count & 0xFFFFFFFF
            self.words[self.since_at] = 0

    def set_status(self, started_ns: int, status: int) -> None:
        """Show the status of a response whose head was sent."""
        if self.started_ns == started_ns:
            self.quarters[self.status_at] = status

    def begin_call(self, started_ns: int, now_ns: int, system_number: int) -> None:
        """Show that the request has begun to call another system at `now_ns` (monotonic)."""
        if self.started_ns == started_ns:
            self.halves[self._system_at] = system_number
            self.words[self.since_at] = -now_ns

    def end_call(self, started_ns: int) -> None:
        """Show that the request does not wait any more."""
        if self.started_ns == started_ns:
            self.words[self.since_at] = 0

    def write_route(self, started_ns: int, texts: Sequence[str]) -> None:
        """Show what its URL was resolved to: `ROUTE_TEXTS`, without a path that the request's texts show."""
        has_path = len(texts) == len(ROUTE_TEXTS)
        content = packed(texts, _ROUTE_LIMITS) if has_path else _packed_names(*texts)
        size = len(content)
        # As `_write_part` does, without its call: this runs for every request.
        if self.started_ns == started_ns:
            start = self._route_at
            self.memory[start : start + size] = content
            self.quarters[self._route_length_at] = size

    def write_watched(self, started_ns: int, texts: Sequence[str]) -> None:
        """Show what the watchdog saw; `texts` are in the order of `WATCH_TEXTS`."""
        self._write_part(started_ns, WATCH_START, _WATCH_LENGTH_AT, packed(texts, _WATCH_LIMITS))

    def write_user(self, started_ns: int, user: str) -> None:
        """Show who the request's user is: the primary key, as on the line."""
        self._write_part(started_ns, USER_START, _USER_LENGTH_AT, packed((user,), _USER_LIMITS))

    def state(self) -> int:
        """Return the state of the slot."""
        return self.memory[self.state_at]

    def read(self) -> OpenRequest | None:
        """Return the request that the slot shows; None if it is free.

        A torn slot (its writer was killed in the middle of a copy) has no texts.
        """
        return parse(self.memory[self._at : self._at + SLOT])

    def open_route(self) -> str | None:
        """Return the route of the request that the slot shows, empty if it has none yet; None if it is free."""
        memory, at = self.memory, self._at
        if memory[self.state_at] != OPEN:
            return None
        (length,) = _LENGTH.unpack_from(memory, at + _ROUTE_LENGTH_AT)
        start = at + ROUTE_START
        return bytes(memory[start : start + length]).partition(b"\0")[0].decode("utf-8", "ignore")

    def is_torn(self) -> bool:
        """Return whether a write of the first part was cut short, or is under way."""
        return is_torn(self.memory[self._at : self._at + SLOT])

    def _write_part(self, started_ns: int, start: int, length_at: int, content: bytes) -> None:
        size = len(content)
        start += self._at
        # No calls below, as above.
        if self.started_ns == started_ns:
            self.memory[start : start + size] = content
            self.quarters[(self._at + length_at) // 2] = size


def parse(slot: bytes) -> OpenRequest | None:
    """Return the request that the bytes of a slot show; None if it is not open."""
    head = _HEAD.unpack_from(slot)
    _, state, exported, length, route_length, watch_length, queries, sql = head[:8]
    if state != OPEN:
        return None
    thread_id, started_ns, started_wall_ns, since_ns, system, user_length, status = head[8:]
    texts = unpacked(slot, REQUEST_START, length, REQUEST_TEXTS)
    texts |= unpacked(slot, ROUTE_START, route_length, ROUTE_TEXTS)
    texts |= unpacked(slot, USER_START, user_length, USER_TEXTS)
    return OpenRequest(
        thread_id=thread_id,
        started_ns=started_ns,
        started_wall_ns=started_wall_ns,
        is_exported=exported == EXPORTED,
        is_kept=exported == KEPT,
        queries=queries,
        texts=texts if not is_torn(slot) else {},
        watched=unpacked(slot, WATCH_START, watch_length, WATCH_TEXTS),
        sql_number=sql,
        waiting_since_ns=abs(since_ns) or None,
        system_number=system if since_ns < 0 else 0,
        status=status or None,
    )


def is_torn(slot: bytes) -> bool:
    """Return whether the bytes of a slot show a write that was cut short, or is under way."""
    end = REQUEST_START + _HEAD.unpack_from(slot)[3]
    return slot[:8] != slot[end : end + 8]


@functools.lru_cache(maxsize=512)
def _packed_names(route: str, view: str) -> bytes:
    """Return the texts of a route without its path."""
    return packed((route, view, ""), _ROUTE_LIMITS)[:-1]
