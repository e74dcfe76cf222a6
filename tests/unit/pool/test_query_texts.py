"""SQL texts on the scoreboard: found by their numbers, never wrong, without the values in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event.sql_text import shown_sql
from otel_canonical.pool.layout import TEXT_SIZE, TEXTS
from otel_canonical.pool.memory import SharedMemory
from otel_canonical.pool.query_texts import LONGEST_KEY, MOST_BYTES, QueryTexts, read_text


def texts_and_memory() -> tuple[QueryTexts, SharedMemory]:
    """Return the numbers of a worker, and where the texts are."""
    memory = SharedMemory("test", TEXTS * TEXT_SIZE)
    return QueryTexts(memory, 0, shown_sql), memory


def test_text_is_found_by_its_number_and_written_once() -> None:
    """The same text has the same number."""
    texts, memory = texts_and_memory()
    number = texts["SELECT 1 FROM a"]
    assert texts["SELECT b"] != number
    assert texts["SELECT 1 FROM a"] == number
    assert read_text(memory.bytes[:], number) == "SELECT ? FROM a"
    assert read_text(memory.bytes[:], 0) == read_text(b"", number) == ""


def test_text_that_made_way_is_unknown_not_another() -> None:
    """More texts than there is room for; memory is bounded on both sides."""
    texts, memory = texts_and_memory()
    numbers = [texts[f"SELECT a{n}"] for n in range(3 * TEXTS)]
    assert len(texts) == TEXTS
    assert read_text(memory.bytes[:], numbers[0]) == ""
    assert read_text(memory.bytes[:], numbers[-1]) == f"SELECT a{3 * TEXTS - 1}"
    assert texts["SELECT a0"] > numbers[-1]


def test_text_is_written_to_its_own_entry_only() -> None:
    """Those of other workers, and what stands before and behind them, stay as they are."""
    size = TEXTS * TEXT_SIZE
    memory = SharedMemory("test", 4 * size)
    memory.bytes[:] = b"\xff" * (4 * size)
    texts = QueryTexts(memory, 2 * size, shown_sql)
    number = texts["SELECT a"]
    own = 2 * size + number % TEXTS * TEXT_SIZE
    outside = memory.bytes[:own] + memory.bytes[own + TEXT_SIZE :]
    assert set(outside) == {0xFF}
    assert read_text(memory.bytes[2 * size : 3 * size], number) == "SELECT a"


def test_long_text_is_not_kept() -> None:
    """Only its beginning is on the scoreboard."""
    texts, memory = texts_and_memory()
    sql = "SELECT " + "a, " * LONGEST_KEY
    number = texts[sql]
    assert sql not in texts
    longest = "SELECT ".ljust(LONGEST_KEY, "a")
    assert texts[longest] == texts[longest]
    assert longest in texts
    assert read_text(memory.bytes[:], number) == shown_sql(sql)[:MOST_BYTES]


@given(st.text())
def test_any_text_fits(sql: str) -> None:
    """Whatever an app sends to its database."""
    texts, memory = texts_and_memory()
    assert len(read_text(memory.bytes[:], texts[sql]).encode()) <= MOST_BYTES


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT *\n  FROM t1\tWHERE id = 42", "SELECT * FROM t1 WHERE id = ?"),
        ("x = 'it''s' AND y='a\\'b'", "x = ? AND y=?"),
        ("x = 'cut off", "x = ?"),
        ("x = $tag$ secret $tag$, y", "x = ?, y"),
        ("x = $$ secret", "x = ?"),
        ("LIMIT 10.5e3 OFFSET 0x1F", "LIMIT ? OFFSET ?"),
        ('"table1"."col2" = %s AND b = $1', '"table1"."col2" = %s AND b = $1'),
    ],
)
def test_values_in_sql_are_not_shown(sql: str, shown: str) -> None:
    """Names and placeholders stay."""
    assert shown_sql(sql) == shown
