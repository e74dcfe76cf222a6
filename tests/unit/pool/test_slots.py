"""A slot is, byte for byte, what the table of its module says: readers of other processes go by that."""

from __future__ import annotations

import re
import struct

import pytest

from otel_canonical.pool import layout, slots
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.pool.slots import EXPORTED, KEPT, OPEN, REQUEST_TEXTS, UNEXPORTED, Slot

TEXTS = ("id", "t" * 32, "s" * 16, "c" * 16, "GET", "localhost", "127.0.0.1", "/a/")
TYPES = {"uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "int64": "q"}
#: Offset, type and meaning of each number.
TABLE = re.findall(r"^ +(\d+)  (u?int\d+) +(.*)$", slots.__doc__ or "", re.MULTILINE)


def number(slot: bytes, meaning: str) -> int:
    """Return the number in a slot that the table describes by words that begin so."""
    [(at, kind)] = [(int(at), kind) for at, kind, text in TABLE if text.startswith(meaning)]
    found: int = struct.unpack_from("=" + TYPES[kind], slot, at)[0]
    return found


def a_board() -> tuple[Scoreboard, Slot]:
    """Return a scoreboard and a slot of it that is neither its first nor in its first block."""
    board = Scoreboard(3, 4)
    assert [board.take_block() for _ in range(2)] == [0, 1]
    board.new_slot(1)
    board.new_slot(1)
    slot = board.new_slot(1)
    assert slot is not None
    return board, slot


def written(board: Scoreboard) -> bytes:
    """Return the bytes of that slot."""
    at = board.layout.slot_at(1, 2)
    return bytes(board.memory.bytes[at : at + layout.SLOT])


def test_numbers_are_where_the_table_says() -> None:
    """All that a request can show, in a slot between others."""
    board, slot = a_board()
    slot.open(11, 22, 33, EXPORTED, TEXTS)
    slot.begin_query(22, 100, 5)
    slot.set_queries(22, 7)
    slot.begin_call(22, 200, 6)
    slot.write_route(22, ("route/", "app.view", "/b/"))
    slot.write_watched(22, ("1.5", "a.py:1:f", "b.py:2:g"))
    slot.write_user(22, "42")
    slot.set_status(22, 503)
    found = written(board)
    request = "\0".join(TEXTS).encode()
    assert {meaning: number(found, meaning) for _, _, meaning in TABLE} == {
        meaning: value
        for (_, _, meaning), value in zip(
            TABLE,
            (
                *(1, OPEN, EXPORTED, len(request), len("route/.app.view./b/")),
                *(len("1.5.a.py:1:f.b.py:2:g"), 7, 5, 11, 22, 33, -200, 6, 2, 503),
            ),
            strict=True,
        )
    }
    start = slots.REQUEST_START
    assert found[start : start + len(request) + 8] == request + found[:8]
    parts = {slots.ROUTE_START: b"route/\0app.view\0/b/", slots.USER_START: b"42"}
    parts[slots.WATCH_START] = b"1.5\0a.py:1:f\0b.py:2:g"
    for at, text in parts.items():
        assert found[at : at + len(text)] == text
    table = slots.__doc__ or ""
    for name in ("ROUTE_TEXTS", "WATCH_TEXTS", "USER_TEXTS"):
        [at] = re.findall(rf"^ +(\d+)  `{name}`", table, re.MULTILINE)
        assert int(at) in parts


def test_slots_beside_it_stay_as_they_are() -> None:
    """Each write has its own bytes: of this slot, of its busy time, of its worker's count."""
    board, slot = a_board()
    before = bytes(board.memory.bytes)
    slot.open(11, 22, 33, EXPORTED, TEXTS)
    where = board.layout
    own = range(where.slot_at(1, 2), where.slot_at(1, 3))
    busy_at = where.busy_at + 8 * (1 * 4 + 2)
    active_at = where.active_at + 8 * 1
    words = {*range(busy_at, busy_at + 8), *range(active_at, active_at + 8)}
    changed = {
        at
        for at, (old, new) in enumerate(zip(before, board.memory.bytes[:], strict=True))
        if bytes([old]) != (new if isinstance(new, bytes) else bytes([new]))
    }
    assert changed <= {*own, *words}
    assert {busy_at, active_at} <= changed


@pytest.mark.parametrize(
    ("mark", "is_exported", "is_kept"),
    [(UNEXPORTED, False, False), (EXPORTED, True, False), (KEPT, False, True)],
)
def test_export_is_read_as_it_was_marked(mark: int, is_exported: bool, is_kept: bool) -> None:
    """Not exported, exported, or kept until the rule decides."""
    _, slot = a_board()
    slot.open(11, 22, 33, mark, TEXTS)
    request = slot.read()
    assert request is not None
    assert (request.is_exported, request.is_kept) == (is_exported, is_kept)


def test_each_opening_has_a_sequence_of_its_own() -> None:
    """Otherwise a torn write of a second request like the first would look whole."""
    board, slot = a_board()
    sequences = []
    for started_ns in (22, 44, 66):
        slot.open(11, started_ns, 33, EXPORTED, TEXTS)
        sequences.append(number(written(board), "sequence"))
        slot.close(started_ns + 1)
    assert sequences == [1, 2, 3]


def test_count_of_open_slots_is_that_of_its_worker() -> None:
    """Up when a request is opened, down when it is closed."""
    board, slot = a_board()
    counts = []
    for _ in range(2):
        slot.open(11, 22, 33, EXPORTED, TEXTS)
        counts.append(board.counters.active.tolist())
        slot.close(30)
        counts.append(board.counters.active.tolist())
    assert counts == [[0, 1, 0], [0, 0, 0]] * 2


def test_text_of_its_greatest_length_is_whole() -> None:
    """One byte more is cut off."""
    _, slot = a_board()
    texts = [str(n) * limit for n, limit in enumerate(REQUEST_TEXTS.values())]
    slot.open(11, 22, 33, EXPORTED, texts)
    request = slot.read()
    assert request is not None
    assert list(request.texts.values()) == texts
    slot.open(11, 22, 33, EXPORTED, [text + "x" for text in texts])
    request = slot.read()
    assert request is not None
    assert list(request.texts.values()) == texts
    assert not slot.is_torn()


def test_text_never_runs_into_the_next() -> None:
    """A zero byte that a client sends parts nothing, whatever other bytes it sends."""
    _, slot = a_board()
    for other in ("", "\1" * 7):
        slot.open(11, 22, 33, EXPORTED, ("a\0b", *TEXTS[1:-1], f"/{other}"))
        request = slot.read()
        assert request is not None
        assert (request.texts["request_id"], request.texts["path"]) == ("a b", f"/{other}")


def test_late_writes_are_ignored() -> None:
    """A thread that the request has left behind, or the watchdog, after the slot was given to another."""
    board, slot = a_board()
    slot.open(11, 22, 33, EXPORTED, TEXTS)
    before = written(board)
    slot.set_queries(21, 7)
    slot.begin_query(21, 300, 7)
    slot.begin_call(21, 300, 7)
    slot.end_call(21)
    slot.set_status(21, 503)
    slot.write_user(21, "42")
    slot.write_route(21, ("a", "b", "c"))
    slot.write_watched(21, ("a", "b", "c"))
    assert written(board) == before


def test_open_route_is_that_of_an_open_slot() -> None:
    """Empty until the URL is resolved."""
    _, slot = a_board()
    assert slot.started_ns == 0
    assert slot.open_route() is None
    slot.open(11, 22, 33, EXPORTED, TEXTS)
    assert slot.open_route() == ""
    slot.write_route(22, ("route/", "app.view", "/b/"))
    assert slot.open_route() == "route/"
    slot.set_state(slots.CLOSING)
    assert slot.open_route() is None


def test_user_is_shown_up_to_its_length() -> None:
    """And is absent until the app has looked it up."""
    _, slot = a_board()
    slot.open(11, 22, 33, EXPORTED, TEXTS)
    shown = []
    for user in ("", "42", "u" * 128, "u" * 129):
        if user:
            slot.write_user(22, user)
        request = slot.read()
        assert request is not None
        shown.append(request.texts.get("user"))
    assert shown == [None, "42", "u" * 128, "u" * 128]


def test_texts_of_their_greatest_length_fit_their_part() -> None:
    """With what separates them and, behind the first part, the sequence."""
    parts = [
        (slots.REQUEST_START, slots.REQUEST_TEXTS, 8, slots.ROUTE_START),
        (slots.ROUTE_START, slots.ROUTE_TEXTS, 0, slots.WATCH_START),
        (slots.WATCH_START, slots.WATCH_TEXTS, 0, slots.USER_START),
        (slots.USER_START, slots.USER_TEXTS, 0, layout.SLOT),
    ]
    for start, texts, behind, end in parts:
        assert start + sum(texts.values()) + len(texts) - 1 + behind <= end
