"""What a line says of a request's queries: the same by each way of writing it, each with its right value."""

from __future__ import annotations

from typing import Any

import pytest

from otel_canonical.event import sql_text
from otel_canonical.event.rows import DETAILS, FilledRow
from otel_canonical.request import database_facts
from otel_canonical.request.database_facts import (
    NAMED_QUERIES,
    add_database_facts,
    slow_query_details,
)
from otel_canonical.request.query_tally import QueryTally, RepeatedQuery, thresholds
from otel_canonical.request.slow_queries import SlowQuery

MILLISECOND = 1_000_000

WORST = RepeatedQuery("SELECT a  FROM b", 7, 1_500 * MILLISECOND, "shop/views.py:3:show")
UNPLACED = RepeatedQuery("SELECT c FROM d", 5, 2 * MILLISECOND, None)
SLOWEST = ("SELECT e\nFROM f", 300 * MILLISECOND, "shop/models.py:9:total")
NO_SLOWEST = (None, 0, None)

N1 = "db_n1_count=7 db_n1_time=1.5"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (([WORST], *NO_SLOWEST), f'db_n1="SELECT a FROM b" {N1} db_n1_loc=shop/views.py:3:show'),
        (
            ([UNPLACED, WORST], *NO_SLOWEST),
            'db_n1="SELECT c FROM d" db_n1_count=5 db_n1_time=0.002',
        ),
        (([WORST._replace(text="", loc=None)], *NO_SLOWEST), N1),
        (
            ([], *SLOWEST),
            'db_slowest="SELECT e FROM f" db_slowest_time=0.3 db_slowest_loc=shop/models.py:9:total',
        ),
        (
            ([WORST], *SLOWEST[:2], None),
            f'db_n1="SELECT a FROM b" {N1} db_n1_loc=shop/views.py:3:show '
            'db_slowest="SELECT e FROM f" db_slowest_time=0.3',
        ),
    ],
)
def test_named_queries_are_written_as_their_details_are(values: Any, line: str) -> None:
    """Without their text where there is none to show, and without a line of code that isn't known."""
    assert NAMED_QUERIES.as_logfmt(values) == line
    assert DETAILS.as_logfmt(NAMED_QUERIES.details(values)) == line
    keys = [key for key, _ in NAMED_QUERIES.pairs(values)]
    assert keys == [field.partition("=")[0] for field in line.split() if field.startswith("db_")]


def test_spans_show_all_repeated_queries() -> None:
    """The worst by itself, all of them as lists of equal length."""
    found = NAMED_QUERIES.attributes(([WORST, UNPLACED], *SLOWEST))
    assert found == {
        "canonical.db.n1.query": "SELECT a FROM b",
        "canonical.db.n1.count": 7,
        "canonical.db.n1.time": 1.5,
        "canonical.db.n1.loc": "shop/views.py:3:show",
        "canonical.db.n1.queries": ("SELECT a FROM b", "SELECT c FROM d"),
        "canonical.db.n1.counts": (7, 5),
        "canonical.db.n1.times": (1.5, 0.002),
        "canonical.db.n1.locs": ("shop/views.py:3:show", ""),
        "canonical.db.slowest.query": "SELECT e FROM f",
        "canonical.db.slowest.duration": 0.3,
        "canonical.db.slowest.loc": "shop/models.py:9:total",
    }


def rows_of(queries: QueryTally) -> list[FilledRow]:
    """Return the rows of a request's queries."""
    rows: list[FilledRow] = []
    add_database_facts(rows, queries)
    return rows


def test_rows_have_as_many_values_as_their_event_may_have_attributes() -> None:
    """That is how much room a span is given: with a repeated and a slow query, just enough."""
    queries = QueryTally()
    for _ in range(thresholds.n_plus_one):
        queries.add_query("SELECT a", thresholds.slow_ns + 1)
    row, values = rows_of(queries)[-1]
    assert row is NAMED_QUERIES
    assert len(values) == len(row.attributes(values))


def test_sums_are_shown_each_under_its_key() -> None:
    """Of what there was: no connection was opened, no transaction begun, and nothing failed, by default."""
    queries = QueryTally()
    for _ in range(2):
        queries.add_query("SELECT a", 2 * MILLISECOND)
    queries.add_query("SELECT b", 3 * MILLISECOND)
    queries.fetch_ns, queries.rows = 5 * MILLISECOND, 8
    expected: dict[str, Any] = {
        "db_queries": 3,
        "db_time": 0.007,
        "db_dup_queries": 2,
        "db_dup_time": 0.004,
        "db_fetch_time": 0.005,
        "db_rows": 8,
    }
    assert fields_of(queries) == expected
    queries.connects, queries.connect_ns, queries.txn_ns = 1, 6 * MILLISECOND, 9 * MILLISECOND
    queries.add_query("SELECT c", 0, failed=True)
    more = {"db_connects": 1, "db_connect_time": 0.006, "db_txn_time": 0.009, "db_errors": 1}
    assert fields_of(queries) == {**expected, "db_queries": 4, **more}


def fields_of(queries: QueryTally) -> dict[str, Any]:
    """Return what a line says of a request's queries."""
    return {key: value for row, values in rows_of(queries) for key, value in row.pairs(values)}


def test_slow_query_is_told_with_its_plan() -> None:
    """On the line up to 2000 bytes of it, its lines side by side; on a span all."""
    query = SlowQuery("replica", "SELECT a", None, 250 * MILLISECOND, None)
    plan = "SCAN a\n" + "x" * 1993
    details = {key: values for key, *values in slow_query_details(query, plan)}
    assert details["db_plan"] == ["SCAN a / " + "x" * 1988 + "...", plan]
    assert len(str(details.pop("db_plan")[0])) == 2000
    assert details == {
        "db_query": ["SELECT a"] * 2,
        "db_query_time": [0.25] * 2,
        "db_alias": ["replica"] * 2,
    }
    query.loc = "shop/views.py:3:show"
    placed = {key: on_line for key, on_line, _ in slow_query_details(query, plan)}
    assert placed["db_query_loc"] == "shop/views.py:3:show"


def test_queries_are_counted_where_their_texts_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without sqlparse no text is shown: a literal in it could be a secret."""
    monkeypatch.setattr(sql_text, "_lexer", lambda: None)
    sql_text.normalized.cache_clear()
    sql_text.line_text.cache_clear()
    try:
        assert database_facts.NAMED_QUERIES.as_logfmt(([WORST], *NO_SLOWEST)) == (
            f"{N1} db_n1_loc=shop/views.py:3:show"
        )
        assert [key for key, *_ in NAMED_QUERIES.details(([], *SLOWEST))] == [
            "db_slowest_time",
            "db_slowest_loc",
        ]
    finally:
        sql_text.normalized.cache_clear()
        sql_text.line_text.cache_clear()
