"""The last SQL texts of a worker on the scoreboard, so that a slot names the text of a query by a number.

Written by the worker, read from outside. An entry is `TEXT_SIZE` bytes::

      0  uint64  its number, from 1; 0 while it is written
      8  uint16  bytes of the text
     10  the text, its literals replaced, shortened

The entry of number `n` is `n % TEXTS`; a newer text takes the place of the oldest. A reader that finds
another number in the entry does not know the text.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable

from otel_canonical.pool.layout import TEXT_SIZE, TEXTS
from otel_canonical.pool.memory import SharedMemory

_HEAD = struct.Struct("=QH")
_LENGTH = struct.Struct("=H")
MOST_BYTES = TEXT_SIZE - _HEAD.size
#: A longer text is written anew each time rather than kept as a key.
LONGEST_KEY = 4096


class QueryTexts(dict[str, int]):
    """Numbers of SQL texts: `texts[sql]` writes a text to the scoreboard when it is new.

    A dictionary, because looking up a known text then calls no Python function.

    Args:
        memory: the scoreboard.
        at: where the texts of the worker's block begin.
        shorten: makes of SQL what may be shown.
    """

    def __init__(self, memory: SharedMemory, at: int, shorten: Callable[[str], str]) -> None:
        super().__init__()
        self._memory = memory
        self._at = at
        self._shorten = shorten
        self._numbers = itertools.count(1)
        self._keys = [""] * TEXTS

    def __missing__(self, sql: str) -> int:
        # `next` is one step for all threads.
        number = next(self._numbers) & 0xFFFFFFFF
        position = number % TEXTS
        text = self._shorten(sql).encode("utf-8", "replace")[:MOST_BYTES]
        at = self._at + position * TEXT_SIZE
        memory = self._memory
        memory.words[at // 8] = 0
        memory.bytes[at + 8 : at + _HEAD.size + len(text)] = _LENGTH.pack(len(text)) + text
        memory.words[at // 8] = number
        self.pop(self._keys[position], None)
        if len(sql) <= LONGEST_KEY:
            self._keys[position] = sql
            self[sql] = number
        return number


def read_text(texts: bytes, number: int) -> str:
    """Return the text of a number, given all texts of its block; empty if it is not there any more."""
    at = number % TEXTS * TEXT_SIZE
    entry = texts[at : at + TEXT_SIZE]
    if not number or len(entry) < _HEAD.size:
        return ""
    found, length = _HEAD.unpack_from(entry)
    if found != number:
        return ""
    return entry[_HEAD.size : _HEAD.size + length].decode("utf-8", "ignore")
