"""The layout of a scoreboard: parts don't overlap, and its beginning tells a stranger how to read it."""

from __future__ import annotations

import os
import re

import pytest

from otel_canonical._version import __version__
from otel_canonical.pool import counters, layout, slots
from otel_canonical.pool.layout import layout_of
from otel_canonical.pool.scoreboard import Scoreboard


@pytest.mark.parametrize(("blocks", "count"), [(1, 1), (3, 5), (64, 1000)])
def test_parts_follow_one_another(blocks: int, count: int) -> None:
    """Each is aligned and begins where the one before ends."""
    where = layout_of(blocks, count)
    parts = [where.facts_at, where.switches_at, where.active_at, where.waiting_at]
    parts += [where.blocks_at, where.busy_at, where.texts_at, where.slots_at, where.size]
    assert parts == sorted(parts)
    assert all(part % 8 == 0 for part in parts)
    assert where.block_at(blocks) == where.busy_at
    assert where.texts_of(blocks) == where.slots_at
    assert where.slot_at(blocks, 0) == where.size
    assert slots.USER_START + slots.USER_TEXTS["user"] <= layout.SLOT
    assert layout.IDENTITY.size + layout.GEOMETRY.size <= layout.BACKLOG * layout.WORD


def test_head_says_what_it_is() -> None:
    """Magic, version of layout and package, geometry: what a reader looks at first."""
    board = Scoreboard(3, 5, is_bounded=False, has_queues=True)
    assert board.memory.fd is not None
    head = os.pread(board.memory.fd, layout.HEAD_SIZE, 0)
    magic, version, package = layout.IDENTITY.unpack_from(head)
    assert (magic, version) == (layout.MAGIC, layout.VERSION)
    assert package.rstrip(b"\0").decode() == __version__
    geometry = layout.GEOMETRY.unpack_from(head, layout.IDENTITY.size)
    assert geometry == (os.getpid(), 3, 5, 0, 1)


def test_facts_are_whole_while_they_are_replaced() -> None:
    """Two buffers in turns; what doesn't fit is refused and leaves the old."""
    board = Scoreboard(1, 1)
    board.write_switches({"a": [1, None]})
    assert board.read_switches() == {"a": [1, None]}
    board.write_switches({"b": [2, None]})
    assert board.read_switches() == {"b": [2, None]}
    with pytest.raises(ValueError, match="don't fit"):
        board.write_switches({"c": "x" * layout.SWITCHES_SIZE})
    assert board.read_switches() == {"b": [2, None]}
    assert board.switches_generation[0] == 2


def test_scoreboard_cannot_be_shortened() -> None:
    """A touch beyond the end would kill whoever touches."""
    board = Scoreboard(1, 1)
    assert board.memory.fd is not None
    with pytest.raises(PermissionError):
        os.ftruncate(board.memory.fd, 0)


def test_words_are_distinct_and_within_their_block() -> None:
    """Each has one meaning: a number that is given twice would be two counts in one word."""
    names = """PID NUMBER STARTED_NS BOOTED_NS USED_SLOTS HEARTBEAT_FD WAKE_FD ANSWER_FD DUMP_FD
    DUMP_SIGNAL WATCHDOG_TID QUEUED_SPANS QUEUED_LOGS""".split()
    listeners = range(counters.LISTENERS, counters.LISTENERS + counters.MOST_LISTENERS)
    words = [*range(len(counters.COUNTS)), *listeners, *(getattr(counters, name) for name in names)]
    assert len(set(words)) == len(words)
    assert max(words) < layout.BLOCK_WORDS
    pool = [layout.BACKLOG, layout.BACKLOG_SEEN_NS, layout.WORKERS, layout.USED_BLOCKS]
    pool += [layout.SWITCHES_GENERATION, layout.FACTS_GENERATION]
    assert len(set(pool)) == len(pool)
    assert max(pool) < layout.HEAD_SIZE // layout.WORD


def test_geometry_is_what_the_table_says() -> None:
    """A reader of another release goes by it, and refuses another `VERSION`."""
    table = re.findall(r"^ +(\d+)  \S", layout.__doc__ or "", re.MULTILINE)
    offsets = [int(at) for at in table]
    identity, geometry = layout.IDENTITY, layout.GEOMETRY
    assert offsets == [0, 8, 12, 16, 48, 56, 64, 72, 80, 128, 256]
    assert identity.size == 48
    assert identity.size + geometry.size == 88
    assert (layout.BACKLOG * layout.WORD, layout.HEAD_SIZE) == (128, 256)
    where = layout_of(3, 5)
    assert where.facts_at == layout.HEAD_SIZE
    sizes = {
        "facts": (where.facts_at, where.switches_at, 2 * 8192),
        "switches": (where.switches_at, where.active_at, 2 * 2048),
        "active": (where.active_at, where.waiting_at, 3 * 8),
        "waiting": (where.waiting_at, where.blocks_at, 3 * 8),
        "blocks": (where.blocks_at, where.busy_at, 3 * 32 * 8),
        "busy": (where.busy_at, where.texts_at, 3 * 5 * 8),
        "texts": (where.texts_at, where.slots_at, 3 * 128 * 512),
        "slots": (where.slots_at, where.size, 3 * 5 * 2816),
    }
    assert {name: end - start for name, (start, end, _) in sizes.items()} == {
        name: size for name, (_, _, size) in sizes.items()
    }
    assert where.slot_at(1, 2) - where.slots_at == (1 * 5 + 2) * layout.SLOT
    assert where.block_at(2) - where.blocks_at == 2 * layout.BLOCK_WORDS * layout.WORD
    assert where.texts_of(2) - where.texts_at == 2 * layout.TEXTS * layout.TEXT_SIZE


def test_words_of_version_1_stay_where_they_are() -> None:
    """Another order of words would be another version."""
    assert layout.VERSION == 1
    pool = (
        "BACKLOG BACKLOG_SEEN_NS WORKERS USED_BLOCKS SWITCHES_GENERATION FACTS_GENERATION".split()
    )
    assert [getattr(layout, name) for name in pool] == [16, 17, 18, 19, 20, 21]
    block = """LISTENERS PID NUMBER STARTED_NS BOOTED_NS USED_SLOTS HEARTBEAT_FD WAKE_FD ANSWER_FD DUMP_FD
    DUMP_SIGNAL WATCHDOG_TID QUEUED_SPANS QUEUED_LOGS""".split()
    assert [getattr(counters, name) for name in block] == [12, *range(16, 29)]
    assert (counters.MOST_LISTENERS, counters.RESERVED) == (4, -1)
    assert counters.COUNTS[counters.DROPPED] == "dropped"
    assert counters.COUNTS[counters.SHORTENED] == "shortened"
    assert counters.COUNTS[counters.UNSHOWN] == "unshown"
    assert counters.no_counts() == [0] * len(counters.COUNTS)


def test_text_that_just_fits_is_taken() -> None:
    """Its length in front included; one byte more is refused."""
    assert layout.framed(b"abcd", 8) == b"\4\0\0\0abcd"
    assert layout.unframed(b"\4\0\0\0abcdefgh") == b"abcd"
    assert layout.unframed(bytes(8)) == b""
    with pytest.raises(ValueError, match="5 bytes don't fit into 8"):
        layout.framed(b"abcde", 8)


def test_each_write_goes_to_the_other_buffer() -> None:
    """A reader that looks meanwhile sees the text before."""
    board = Scoreboard(1, 1)
    found = []
    for number in range(3):
        board.write_facts({"n": number})
        generation = board.memory.words[layout.FACTS_GENERATION]
        buffers = [
            layout.unframed(board.memory.bytes[at : at + layout.FACTS_SIZE])
            for at in (board.layout.facts_at, board.layout.facts_at + layout.FACTS_SIZE)
        ]
        found.append((generation, buffers[generation & 1], buffers[1 - (generation & 1)]))
    assert found == [
        (1, b'{"n":0}', b""),
        (2, b'{"n":1}', b'{"n":0}'),
        (3, b'{"n":2}', b'{"n":1}'),
    ]
    assert board.read_switches() == {}
