"""The words of the scoreboard: how long slots were busy, what workers have counted.

Words are signed, 8 bytes, aligned, in the machine's order: one store each, never seen half written.
Each has one writer at a time::

    per block   `waiting`: requests that its worker has accepted and that no thread serves yet
    per block   16 words: `COUNTS` since its worker began, then the inodes of its listening sockets
    per slot    `busy`: how long it has been busy, ns; less the monotonic clock's reading at which its
                request was opened while it has one, so that the word is negative then

One word for both, because a reader that finds them in two places may count a request that ends just
then twice, or not at all.

Threads and greenlets of a worker count with `counts[n] += 1`: between the read and the write of that
no Python function is called, and only there does CPython switch.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

#: What is counted of lines, the first ones by their `event_type`.
COUNTS = (
    *("request", "timeout", "lost", "slow", "partial_failure", "pool"),
    *("dropped", "shortened", "unshown"),
)
DROPPED = COUNTS.index("dropped")
SHORTENED = COUNTS.index("shortened")
UNSHOWN = COUNTS.index("unshown")

#: Listening sockets of its own that a worker can tell of; it has them with `--reuse-port` only.
MOST_LISTENERS = 4
_LISTENERS_AT = 12
_BLOCK_WORDS = _LISTENERS_AT + MOST_LISTENERS
_WORD = 8


class Counts(Protocol):
    """Where `COUNTS` are kept: words of the scoreboard, or a list."""

    def __iter__(self) -> Iterator[int]: ...

    def __getitem__(self, number: int, /) -> int: ...

    def __setitem__(self, number: int, count: int, /) -> None: ...


def no_counts() -> list[int]:
    """Return counts that are nobody else's, all 0."""
    return [0] * len(COUNTS)


def size_of(blocks: int, slots: int) -> int:
    """Return how many bytes the words of a scoreboard take."""
    return _WORD * blocks * (1 + _BLOCK_WORDS + slots)


class Counters:
    """The words of one scoreboard.

    Args:
        memory: the scoreboard.
        at: where its words begin, a multiple of 8.
        blocks: workers that the scoreboard has room for.
        slots: requests of each.
    """

    def __init__(self, memory: mmap.mmap, at: int, blocks: int, slots: int) -> None:
        self._slots = slots
        words = memoryview(memory)[at : at + size_of(blocks, slots)].cast("q")
        self.waiting = words[:blocks]
        self._of_blocks = words[blocks : blocks * (1 + _BLOCK_WORDS)]
        self.busy = words[blocks * (1 + _BLOCK_WORDS) :]

    def clear(self, block: int) -> None:
        """Set all words of a block to 0, for its next worker."""
        self.waiting[block] = 0
        for number in range(block * _BLOCK_WORDS, (block + 1) * _BLOCK_WORDS):
            self._of_blocks[number] = 0
        for number in range(block * self._slots, (block + 1) * self._slots):
            self.busy[number] = 0

    def counts_of(self, block: int) -> memoryview[int]:
        """Return the words of `COUNTS`, for the worker to write and the arbiter to read."""
        at = block * _BLOCK_WORDS
        return self._of_blocks[at : at + len(COUNTS)]

    def busy_ns(self, block: int) -> int:
        """Return for how long the slots of a block have been busy, together, up to now."""
        words = self.busy[block * self._slots : (block + 1) * self._slots].tolist()
        # The clock is read after the words: no request was opened later than `now`.
        now_ns = time.monotonic_ns()
        return sum(words) + now_ns * sum(word < 0 for word in words)

    def set_listeners(self, block: int, inodes: Sequence[int]) -> None:
        """Note a worker's own listening sockets; more than `MOST_LISTENERS` are not told."""
        if len(inodes) > MOST_LISTENERS:
            inodes = ()
        at = block * _BLOCK_WORDS + _LISTENERS_AT
        for number, inode in enumerate(inodes, at):
            self._of_blocks[number] = inode

    def listeners_of(self, block: int) -> list[int]:
        """Return the inodes of a worker's own listening sockets."""
        at = block * _BLOCK_WORDS + _LISTENERS_AT
        return [inode for inode in self._of_blocks[at : at + MOST_LISTENERS].tolist() if inode]
