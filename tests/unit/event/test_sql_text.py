"""SQL as it is shown: no value that was written into a text gets out, names and parameters stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event import sql_literals
from otel_canonical.event.sql_literals import without_literals
from otel_canonical.event.sql_text import (
    LINE_BYTES,
    SPAN_BYTES,
    normalized,
    note_mysql,
    shortened,
    shown_sql,
)

SHOWN: tuple[Callable[[str], str], ...] = (normalized, shown_sql, without_literals)
every_way = pytest.mark.parametrize("show", SHOWN, ids=lambda show: show.__name__)


@pytest.fixture
def mysql() -> Iterator[None]:
    """A process that has a connection to MySQL."""
    note_mysql()
    yield
    sql_literals._is_mysql_in_use.clear()
    normalized.cache_clear()
    without_literals.cache_clear()


@every_way
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t WHERE b = 'hunter2'",
        "SELECT a FROM t WHERE b = 'it''s hunter2'",
        "SELECT a FROM t WHERE b = 'cut off: hunter2",
        # Ends a literal in standard SQL, and doesn't in MySQL and in PostgreSQL's E'...'.
        "SELECT a FROM t WHERE b = 'C:\\' AND c = 'hunter2'",
        "SELECT a FROM t WHERE b = 'it\\'s hunter2'",
        "SELECT a FROM t WHERE b = 'x\\\\' AND c = 'hunter2'",
        "SELECT a FROM t WHERE b = $$hunter2$$",
        "SELECT a FROM t WHERE b = 271828",
    ],
)
def test_values_are_not_shown(show: Callable[[str], str], sql: str) -> None:
    """However they are quoted."""
    shown = show(sql)
    assert shown.startswith("SELECT a FROM t WHERE b = ")
    assert "hunter2" not in shown
    assert "271828" not in shown


@every_way
def test_names_and_parameters_stay(show: Callable[[str], str]) -> None:
    """What Django writes is shown as it is."""
    sql = 'SELECT "t1"."c2", "a b" FROM "t1" WHERE ("t1"."x" = %s AND y = %(z)s)'
    assert show(sql) == sql


@every_way
def test_values_in_double_quotes_are_not_shown_where_mysql_is_used(
    show: Callable[[str], str], mysql: None
) -> None:
    """They are values there; a text with names in double quotes is of another database."""
    assert "hunter2" not in show('SELECT a FROM t WHERE b = "hunter2" AND c = "x\\"hunter2"')
    sql = 'SELECT "t1"."c2" FROM "t1"'
    assert show(sql) == sql


@every_way
@given(sql=st.text())
def test_any_text_can_be_shown(show: Callable[[str], str], sql: str) -> None:
    """Whatever an app sends to its database."""
    assert isinstance(show(sql), str)


def test_text_for_a_line_is_folded() -> None:
    """White space, comments and long lists."""
    sql = "/* app */ SELECT a\n  FROM t -- who: hunter2\n WHERE b IN (%s, %s,\t%s) LIMIT 21"
    assert normalized(sql) == "SELECT a FROM t WHERE b IN (%s, ...) LIMIT ?"


def test_long_text_is_cut_visibly() -> None:
    """At a whole character, to the bytes that a line or a span has for it."""
    assert (LINE_BYTES, SPAN_BYTES) == (300, 2000)
    sql = "SELECT " + "ä, " * 5000
    assert len(normalized(sql).encode()) <= SPAN_BYTES
    for most in (LINE_BYTES, LINE_BYTES + 1):
        shown = shortened(normalized(sql), most)
        assert most - 2 <= len(shown.encode()) <= most
        assert shown.endswith("...")
