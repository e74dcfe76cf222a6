"""Which queries of a request are named: the worst repeated ones and the slowest, each with a line of code."""

from __future__ import annotations

import pytest

from otel_canonical.request.query_tally import (
    MOST_LOCATIONS,
    MOST_SHOWN,
    QueryTally,
    RepeatedQuery,
    shape_of,
    thresholds,
)

HERE = "test_query_tally.py:"


def repeated(*queries: tuple[str, int, int]) -> list[RepeatedQuery]:
    """Return what is named of queries, given as text, runs and the time of each run."""
    tally = QueryTally()
    for text, runs, elapsed_ns in queries:
        for _ in range(runs):
            tally.add_query(text, elapsed_ns)
    return tally.repeated()


def test_query_is_named_from_its_fifth_run_on() -> None:
    """With all of its runs and the line that asked for the fifth."""
    assert repeated(("a", 4, 10)) == []
    [found] = repeated(("a", 7, 10), ("b", 4, 1000))
    assert (found.text, found.runs, found.elapsed_ns) == ("a", 7, 70)
    assert HERE in str(found.loc)


def test_threshold_is_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_PYTHON_CANONICAL_N_PLUS_ONE`."""
    monkeypatch.setattr(thresholds, "n_plus_one", 3)
    assert [found.runs for found in repeated(("a", 3, 1), ("b", 2, 1))] == [3]


def test_worst_is_the_one_that_took_the_most_time() -> None:
    """Not the one with the most runs; at most five are named."""
    found = repeated(
        *((f"SELECT {chr(97 + number)}", 5 + number, 100 - 10 * number) for number in range(8))
    )
    assert len(found) == MOST_SHOWN
    assert [query.elapsed_ns for query in found] == sorted(
        (query.elapsed_ns for query in found), reverse=True
    )
    assert found[0].elapsed_ns == max((5 + number) * (100 - 10 * number) for number in range(8))


def test_queries_of_one_shape_are_one() -> None:
    """Literals pasted into the text; prefetches with as many parameters as there are rows."""
    tally = QueryTally()
    for number in range(1, 7):
        tally.add_query(f"SELECT a FROM t WHERE b = {number}", 10)
        tally.add_query(f"SELECT c FROM u WHERE d IN ({', '.join(['%s'] * number)})", 1)
    found = tally.repeated()
    assert [(query.runs, query.elapsed_ns) for query in found] == [(6, 60), (6, 6)]
    assert tally.duplicates() == (0, 0)


def test_names_with_digits_are_no_literals() -> None:
    """Tables and columns differ: these are different queries."""
    texts = ['SELECT "t1"."c" FROM "t1"', 'SELECT "t2"."c" FROM "t2"', "SELECT T3.a FROM b T3"]
    assert [shape_of(text) for text in texts] == texts


def test_slowest_is_named_above_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest of all, with the line that asked for it."""
    monkeypatch.setattr(thresholds, "slow_ns", 100)
    tally = QueryTally()
    for text, elapsed_ns in (("a", 100), ("b", 300), ("c", 200), ("d", 99)):
        tally.add_query(text, elapsed_ns)
    assert (tally.slowest_text, tally.slowest_ns) == ("b", 300)
    assert HERE in str(tally.slowest_loc)


def test_few_lines_of_code_are_looked_up_per_request() -> None:
    """Looking one up costs microseconds: the queries beyond are counted and have no line."""
    tally = QueryTally()
    for number in range(3 * MOST_LOCATIONS):
        for _ in range(5):
            tally.add_query(f"SELECT a{chr(97 + number)}", 1)
    assert len([suspect for suspect in tally._suspects if suspect.loc]) == MOST_LOCATIONS
    assert len(tally._suspects) == 3 * MOST_LOCATIONS
