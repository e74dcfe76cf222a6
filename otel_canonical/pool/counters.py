"""The counters on the scoreboard: busy time of slots, lines written by workers.

Each counter is a signed 8-byte word, aligned, in the machine's order, so a store is never seen half
written. Each has one writer at a time::

    per block   `waiting`: requests that its worker has accepted and that no thread serves yet
    per block   16 words: `COUNTS` since its worker began, then the inodes of its listening sockets
    per slot    `busy`: how long the slot was busy in total, ns. While it serves a request the word holds
                `total - started_ns`, which is negative; adding `now_ns` makes it the total again

Both facts are in one word because a reader of two words could count a request that ends between the two
reads twice, or not at all.

Threads and greenlets of a worker count with `counts[n] += 1`. No Python function is called between its
read and its write, and CPython switches threads only at calls and loops.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

#: What is counted: lines by `event_type`, and what happened to lines.
COUNTS = (
    *("request", "timeout", "lost", "slow", "partial_failure", "pool"),
    *("dropped", "shortened", "unshown", "slow_query"),
)
DROPPED = COUNTS.index("dropped")
SHORTENED = COUNTS.index("shortened")
UNSHOWN = COUNTS.index("unshown")

#: The most listening sockets of its own that a worker can note; it has some with `--reuse-port` only.
MOST_LISTENERS = 4
_LISTENERS_AT = 12
_BLOCK_WORDS = _LISTENERS_AT + MOST_LISTENERS
_WORD = 8


class Counts(Protocol):
    """Where `COUNTS` are kept: in words of the scoreboard, or in a list."""

    def __iter__(self) -> Iterator[int]: ...

    def __getitem__(self, number: int, /) -> int: ...

    def __setitem__(self, number: int, count: int, /) -> None: ...


def no_counts() -> list[int]:
    """Return new counts, all 0, outside the scoreboard."""
    return [0] * len(COUNTS)


def size_of(blocks: int, slots: int) -> int:
    """Return how many bytes the counters of a scoreboard take."""
    return _WORD * blocks * (1 + _BLOCK_WORDS + slots)


class Counters:
    """The counters of one scoreboard.

    Args:
        memory: the scoreboard.
        at: where its counters begin, a multiple of 8.
        blocks: how many workers it has room for.
        slots: how many requests of each.
    """

    def __init__(self, memory: mmap.mmap, at: int, blocks: int, slots: int) -> None:
        self._slots = slots
        words = memoryview(memory)[at : at + size_of(blocks, slots)].cast("q")
        self.waiting = words[:blocks]
        self._of_blocks = words[blocks : blocks * (1 + _BLOCK_WORDS)]
        self.busy = words[blocks * (1 + _BLOCK_WORDS) :]

    def clear(self, block: int) -> None:
        """Set all counters of a block to 0, for its next worker."""
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
        """Return how long the slots of a block have been busy in total, up to now."""
        words = self.busy[block * self._slots : (block + 1) * self._slots].tolist()
        # The clock is read after the words: no request was opened later than `now`.
        now_ns = time.monotonic_ns()
        return sum(words) + now_ns * sum(word < 0 for word in words)

    def set_listeners(self, block: int, inodes: Sequence[int]) -> None:
        """Note a worker's own listening sockets; none of them if there are more than `MOST_LISTENERS`."""
        if len(inodes) > MOST_LISTENERS:
            inodes = ()
        at = block * _BLOCK_WORDS + _LISTENERS_AT
        for number, inode in enumerate(inodes, at):
            self._of_blocks[number] = inode

    def listeners_of(self, block: int) -> list[int]:
        """Return the inodes of a worker's own listening sockets."""
        at = block * _BLOCK_WORDS + _LISTENERS_AT
        return [inode for inode in self._of_blocks[at : at + MOST_LISTENERS].tolist() if inode]
