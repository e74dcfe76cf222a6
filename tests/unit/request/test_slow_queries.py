"""Queries whose plan can be asked for: a single SELECT, few of them, of bounded size; their span ends once."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from otel_canonical.request import slow_queries
from otel_canonical.request.query_tally import QueryTally
from otel_canonical.request.slow_queries import (
    LONGEST_TEXT,
    MOST_PARAMETERS,
    MOST_PER_REQUEST,
    Explaining,
    Plan,
    SlowQuery,
    explain_with,
    is_explainable,
    note,
)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM b", True),
        ("  select a;\n", True),
        ("SELECT a; DELETE FROM b", False),
        ("SELECT a INTO c FROM b", False),
        ("select a into c from b", False),
        ("INSERT INTO b SELECT a", False),
        ("WITH x AS (DELETE FROM b) SELECT a", False),
        ("", False),
        ("SELECT " + "x" * (LONGEST_TEXT - 7), True),
        ("SELECT " + "x" * (LONGEST_TEXT - 6), False),
    ],
)
def test_plan_is_asked_of_a_single_select(sql: str, expected: bool) -> None:
    """Anything else might be run by asking."""
    assert is_explainable(sql) is expected


@pytest.fixture
def explaining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are wanted, and somebody can fetch them."""
    monkeypatch.setattr(slow_queries, "explaining", Explaining())
    explain_with(lambda query: Plan("SCAN"))


def test_first_slow_queries_of_a_request_are_noted(explaining: None) -> None:
    """With the line that asked; the others have none."""
    queries = QueryTally()
    noted = [note(queries, "default", f"SELECT {n}", None, 10 + n) for n in range(5)]
    assert [query is not None for query in noted] == [True] * 3 + [False] * 2
    assert MOST_PER_REQUEST == 3
    first = noted[0]
    assert first is queries.slow[0]
    assert (first.alias, first.sql, first.params, first.elapsed_ns) == (
        "default",
        "SELECT 0",
        None,
        10,
    )
    assert "test_slow_queries.py:" in str(first.loc)


@pytest.mark.parametrize(
    ("params", "is_noted"),
    [
        (None, True),
        ((), True),
        ((1,) * MOST_PARAMETERS, True),
        ((1,) * (MOST_PARAMETERS + 1), False),
    ],
)
def test_query_with_many_parameters_is_not_kept(
    explaining: None, params: Any, is_noted: bool
) -> None:
    """They would be in memory until the response is out."""
    assert (note(QueryTally(), "default", "SELECT a", params, 1) is not None) is is_noted


def test_nothing_is_noted_where_no_plan_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by default; then no query counts as slow either."""
    monkeypatch.setattr(slow_queries, "explaining", Explaining())
    assert note(QueryTally(), "default", "SELECT a", None, 1) is None
    assert slow_queries.explaining.slow_ns == sys.maxsize
    monkeypatch.setattr(slow_queries, "explaining", Explaining(fetch=lambda query: Plan()))
    assert note(QueryTally(), "default", "DELETE FROM b", None, 1) is None


class Span:
    """The span of a query."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.is_open = is_open
        self.events: list[tuple[str, Any]] = []
        self.ended: list[int | None] = []

    def add_event(self, name: str, attributes: Any = None) -> None:
        """Keep it."""
        self.events.append((name, attributes))

    def end(self, end_time: int | None = None) -> None:
        """Keep when."""
        self.ended.append(end_time)

    def is_recording(self) -> bool:
        """Return whether it was made so."""
        return self.is_open


@pytest.mark.parametrize("plan", [None, "SCAN a"])
def test_span_ends_once_when_the_query_did(plan: str | None) -> None:
    """With its plan, if there is one."""
    span = Span()
    query = SlowQuery("default", "SELECT a", None, 1, None, span, ended_wall_ns=77)
    query.end_span(plan)
    query.end_span(plan)
    assert span.ended == [77]
    assert span.events == ([("db.plan", {"canonical.db.plan": plan})] if plan else [])
    ended = Span(is_open=False)
    SlowQuery("default", "SELECT a", None, 1, None, ended).end_span("SCAN a")
    assert (ended.ended, ended.events) == ([], [])
