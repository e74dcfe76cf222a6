"""The layout of a scoreboard: parts don't overlap, and its beginning tells a stranger how to read it."""

from __future__ import annotations

import os

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
