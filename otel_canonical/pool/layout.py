"""The layout of a scoreboard: at which byte each part of it begins. Pure.

Workers and the arbiter write a scoreboard; the commands of `otel-canonical` read it from outside. It is
a sequence of parts, numbers in the machine's order::

      0  8 bytes   `MAGIC`
      8  uint32    `VERSION` of the layout. Up to here and the next 40 bytes every version is alike
     12  uint32    unused
     16  32 bytes  the version of otel-canonical, padded with zeros
     48  int64     pid of the arbiter
     56  int64     blocks: for how many workers there is room
     64  int64     slots of each block: how many open requests of a worker are shown
     72  int64     1 if a worker never serves more requests at once than it has slots
     80  int64     1 if workers accept requests before they have a thread for them
    128  16 words  of the whole pool, see the names below
    256  facts     two buffers of JSON that the arbiter writes in turns, see `framed`
      …  switches  two buffers of JSON that `otel-canonical set` and the arbiter write in turns
      …  active    a word for each block: how many of its slots are open. By its worker
      …  waiting   a word for each block: accepted requests without a thread. By its worker
      …  blocks    `BLOCK_WORDS` words for each block, see `counters`
      …  busy      a word for each slot, see `counters`
      …  texts     `TEXTS` SQL texts for each block, see `query_texts`
      …  slots     see `slots`

A word is a signed, aligned 8-byte number: a store is never seen half written. All counts up to the last
that is in use are on the page, so a reader never looks at memory that was not used yet.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAGIC = b"otelcanp"
VERSION = 1
#: The name of the memfd; `/proc/PID/fd` shows it behind `/memfd:`.
MEMFD_NAME = "otel-canonical-pool"

#: Magic, layout version, package version: alike in every version of the layout.
IDENTITY = struct.Struct("=8sI4x32s")
#: Arbiter's pid, blocks, slots, whether slots are a bound, whether workers queue.
GEOMETRY = struct.Struct("=5q")
HEAD_SIZE = 256

# Words of the whole pool, by their number on the page.
#: Connections waiting to be accepted, plus 1; 0 = not known. By the arbiter.
BACKLOG = 16
#: When that was seen, monotonic ns. By the arbiter.
BACKLOG_SEEN_NS = 17
#: Blocks that have a worker. By the arbiter.
WORKERS = 18
#: Blocks up to the last that has a worker. By the arbiter.
USED_BLOCKS = 19
#: Counts the changes of switches; the last bit says which buffer is valid.
SWITCHES_GENERATION = 20
#: Counts the writes of facts; the last bit says which buffer is valid.
FACTS_GENERATION = 21

FACTS_SIZE = 8192
SWITCHES_SIZE = 2048
BLOCK_WORDS = 32
#: SQL texts remembered for each worker, and the bytes for each.
TEXTS = 128
TEXT_SIZE = 512
SLOT = 2816

WORD = 8


class Layout(NamedTuple):
    """Where the parts of a scoreboard begin."""

    blocks: int
    slots: int
    facts_at: int
    switches_at: int
    active_at: int
    waiting_at: int
    blocks_at: int
    busy_at: int
    texts_at: int
    slots_at: int
    size: int

    def slot_at(self, block: int, number: int) -> int:
        """Return where a slot of a block begins."""
        return self.slots_at + (block * self.slots + number) * SLOT

    def block_at(self, block: int) -> int:
        """Return where the words of a block begin."""
        return self.blocks_at + block * BLOCK_WORDS * WORD

    def texts_of(self, block: int) -> int:
        """Return where the SQL texts of a block begin."""
        return self.texts_at + block * TEXTS * TEXT_SIZE


def layout_of(blocks: int, slots: int) -> Layout:
    """Return the layout of a scoreboard with that many blocks and slots of each."""
    facts_at = HEAD_SIZE
    switches_at = facts_at + 2 * FACTS_SIZE
    active_at = switches_at + 2 * SWITCHES_SIZE
    waiting_at = active_at + WORD * blocks
    blocks_at = waiting_at + WORD * blocks
    busy_at = blocks_at + WORD * BLOCK_WORDS * blocks
    texts_at = busy_at + WORD * blocks * slots
    slots_at = texts_at + blocks * TEXTS * TEXT_SIZE
    size = slots_at + blocks * slots * SLOT
    return Layout(
        *(blocks, slots, facts_at, switches_at, active_at, waiting_at),
        *(blocks_at, busy_at, texts_at, slots_at, size),
    )


_LENGTH = struct.Struct("=I")


def framed(text: bytes, size: int) -> bytes:
    """Return a text with its length in front, for a buffer of `size` bytes.

    Raises:
        ValueError: it does not fit.
    """
    if len(text) + _LENGTH.size > size:
        raise ValueError(f"{len(text)} bytes don't fit into {size}")
    return _LENGTH.pack(len(text)) + text


def unframed(buffer: bytes) -> bytes:
    """Return the text of a buffer; empty if none was written."""
    length: int = _LENGTH.unpack_from(buffer)[0]
    return buffer[_LENGTH.size : _LENGTH.size + length]
