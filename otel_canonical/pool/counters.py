"""The counters on the scoreboard: busy time of slots, lines written by workers, and what a worker is.

Each counter is a signed 8-byte word, aligned, in the machine's order, so a store is never seen half
written. Each has one writer at a time::

    per block   `active`: its open slots. `waiting`: requests that its worker has accepted and that no
                thread serves yet
    per block   `BLOCK_WORDS` words: `COUNTS` since its worker began, then the inodes of its listening
                sockets, then the words named below
    per slot    `busy`: how long the slot was busy in total, ns. While it serves a request the word holds
                `total - started_ns`, which is negative; adding `now_ns` makes it the total again

Both facts are in one word because a reader of two words could count a request that ends between the two
reads twice, or not at all.

Threads and greenlets of a worker count with `counts[n] += 1`. No Python function is called between its
read and its write, and CPython switches threads only at calls and loops.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from otel_canonical.pool.layout import BLOCK_WORDS, WORD, Layout
from otel_canonical.pool.memory import SharedMemory

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

# Words of a block, by their number.
LISTENERS = 12
#: The worker's process; 0 = the block is free, `RESERVED` = it is about to be forked.
PID = 16
#: Its number in the pool.
NUMBER = 17
#: When its place was reserved, monotonic ns.
STARTED_NS = 18
#: When it had loaded the app, monotonic ns; 0 = not yet.
BOOTED_NS = 19
#: How many of its slots were ever used: no slot behind them is looked at.
USED_SLOTS = 20
#: Descriptors of the worker, plus 1; 0 = none. Its heartbeat's file (Gunicorn's `WorkerTmp`); the pipe
#: that wakes its watchdog; the memfd with the watchdog's answer; the memfd for dumps of `DUMP_SIGNAL`.
HEARTBEAT_FD = 21
WAKE_FD = 22
ANSWER_FD = 23
DUMP_FD = 24
#: The signal on which the interpreter dumps all stacks into that memfd; 0 = none.
DUMP_SIGNAL = 25
#: The kernel's id of the watchdog's thread: the only thread that is ever sent `DUMP_SIGNAL`.
WATCHDOG_TID = 26
#: What the worker's exporters have not sent yet.
QUEUED_SPANS = 27
QUEUED_LOGS = 28

RESERVED = -1


class Counts(Protocol):
    """Where `COUNTS` are kept: in words of the scoreboard, or in a list."""

    def __iter__(self) -> Iterator[int]: ...

    def __getitem__(self, number: int, /) -> int: ...

    def __setitem__(self, number: int, count: int, /) -> None: ...


def no_counts() -> list[int]:
    """Return new counts, all 0, outside the scoreboard."""
    return [0] * len(COUNTS)


class Counters:
    """The counters of one scoreboard.

    Args:
        memory: the scoreboard.
        layout: where its parts begin.
    """

    def __init__(self, memory: SharedMemory, layout: Layout) -> None:
        self._layout = layout
        self._words = words = memory.words
        self._busy = layout.busy_at // WORD
        blocks = layout.blocks
        self.active = words[layout.active_at // WORD :][:blocks]
        self.waiting = words[layout.waiting_at // WORD :][:blocks]

    def clear(self, block: int) -> None:
        """Set all counters of a block to 0, for its next worker."""
        used = self.used_slots(block)
        busy_at = self._busy + block * self._layout.slots
        self._words[busy_at : busy_at + used] = memoryview(bytes(WORD * used)).cast("q")
        self.active[block] = 0
        self.waiting[block] = 0
        self.of_block(block)[:] = memoryview(bytes(WORD * BLOCK_WORDS)).cast("q")

    def of_block(self, block: int) -> memoryview[int]:
        """Return all words of a block."""
        at = self._layout.block_at(block) // WORD
        return self._words[at : at + BLOCK_WORDS]

    def used_slots(self, block: int) -> int:
        """Return how many slots of a block were ever used by its worker."""
        # One too many for a moment, while a worker finds that it has no more.
        return min(self.of_block(block)[USED_SLOTS], self._layout.slots)

    def counts_of(self, block: int) -> memoryview[int]:
        """Return the words of `COUNTS`, for the worker to write and the arbiter to read."""
        return self.of_block(block)[: len(COUNTS)]

    def busy_ns(self, block: int) -> int:
        """Return how long the slots of a block have been busy in total, up to now."""
        at = self._busy + block * self._layout.slots
        words = self._words[at : at + self.used_slots(block)].tolist()
        # The clock is read after the words: no request was opened later than `now`.
        now_ns = time.monotonic_ns()
        return sum(words) + now_ns * sum(word < 0 for word in words)

    def set_listeners(self, block: int, inodes: Sequence[int]) -> None:
        """Note a worker's own listening sockets; none of them if there are more than `MOST_LISTENERS`."""
        if len(inodes) > MOST_LISTENERS:
            inodes = ()
        words = self.of_block(block)
        for number, inode in enumerate(inodes, LISTENERS):
            words[number] = inode

    def listeners_of(self, block: int) -> list[int]:
        """Return the inodes of a worker's own listening sockets."""
        words = self.of_block(block)[LISTENERS : LISTENERS + MOST_LISTENERS]
        return [inode for inode in words.tolist() if inode]
