"""Which queries of a request are named: the worst repeated ones and the slowest, each with a line of code."""

from __future__ import annotations

import pytest

from otel_canonical.request import query_tally
from otel_canonical.request.query_tally import (
    DISTINCT_SQL_TEXTS,
    LONGEST_REMEMBERED,
    LONGEST_SHAPE,
    MOST_LOCATIONS,
    MOST_SHOWN,
    QueryTally,
    RepeatedQuery,
    Thresholds,
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


def test_query_is_suspected_from_five_runs_or_a_tenth_of_a_second_on() -> None:
    """Unless the operator says otherwise."""
    usual = Thresholds()
    assert (usual.n_plus_one, usual.slow_ns) == (5, 100_000_000)


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


def test_worse_of_two_is_first() -> None:
    """Whichever became a suspect first."""
    found = repeated(("SELECT a", 5, 1), ("SELECT b", 5, 100))
    assert [query.text for query in found] == ["SELECT b", "SELECT a"]


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


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("SELECT a WHERE b = 1", "SELECT a WHERE b = ?"),
        ("SELECT a WHERE b = 1.5 AND c = -2", "SELECT a WHERE b = ? AND c = -?"),
        ("SELECT a WHERE b = 'it''s' OR c = ''", "SELECT a WHERE b = ? OR c = ?"),
        ("SELECT a WHERE b IN (1, 2, 3)", "SELECT a WHERE b IN (?)"),
        ("SELECT a WHERE b in ( %s , %s )", "SELECT a WHERE b in (?)"),
        ("SELECT a WHERE b IN (:x, :y)", "SELECT a WHERE b IN (?)"),
        ("SELECT a WHERE b IN (%(x)s, %(y)s)", "SELECT a WHERE b IN (?)"),
        ("SELECT a WHERE b IN (SELECT c)", "SELECT a WHERE b IN (SELECT c)"),
        ("SELECT a WHERE b = $1", "SELECT a WHERE b = $1"),
        ("SELECT a1, `2b` FROM c_3", "SELECT a1, `2b` FROM c_3"),
    ],
)
def test_shape_has_no_literals_and_one_list(text: str, shape: str) -> None:
    """So that queries which differ in values only are one, however many values there are."""
    assert shape_of(text) == shape


def test_shape_is_of_the_beginning_of_a_long_text() -> None:
    """An endless text costs no more; one without literals is its own shape."""
    beginning = "SELECT 1 " + "x" * (LONGEST_SHAPE - 9)
    assert len(shape_of(beginning + " AND y")) == LONGEST_SHAPE
    plain = "SELECT " + "x" * LONGEST_SHAPE
    assert shape_of(plain) == plain


def test_shapes_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short texts and a few long ones: an app that makes texts fills no memory."""
    remembered: dict[str, str] = {}
    monkeypatch.setattr(query_tally, "_shapes", remembered)
    monkeypatch.setattr(query_tally, "MOST_SHAPES", 3)
    sizes = []
    for number in range(8):
        shape_of(f"SELECT {chr(97 + number)}")
        sizes.append(len(remembered))
    assert sizes == [1, 2, 3, 1, 2, 3, 1, 2]
    remembered.clear()
    for length, is_remembered in ((LONGEST_REMEMBERED, True), (LONGEST_REMEMBERED + 1, False)):
        text = "x" * length
        shape_of(text)
        assert (text in remembered) is is_remembered


def test_texts_beyond_the_bound_are_counted_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as duplicates nor as suspects; those of before still are, to the last run."""
    monkeypatch.setattr(query_tally, "DISTINCT_SQL_TEXTS", 3)
    tally = QueryTally()
    for _ in range(5):
        for name in "abcde":
            tally.add_query(f"SELECT {name}", 1)
    assert tally.count == 25
    assert tally.duplicates() == (15, 15)
    assert sorted(query.text for query in tally.repeated()) == [f"SELECT {n}" for n in "abc"]
    shapes = QueryTally()
    for number in range(1, 6):
        for name in "abcde":
            shapes.add_query(f"SELECT {name} WHERE x = {number}", 1)
    assert len(shapes.repeated()) == 3
    assert DISTINCT_SQL_TEXTS == 1000


def test_text_that_comes_again_counts_to_its_shape() -> None:
    """A query with the same literal twice is two runs of its shape; the fifth run names it."""
    tally = QueryTally()
    for number in (1, 1, 2, 2, 1):
        assert tally.repeated() == []
        tally.add_query(f"SELECT a WHERE b = {number}", 10)
    [found] = tally.repeated()
    assert (found.runs, found.elapsed_ns) == (5, 50)
    assert HERE in str(found.loc)
    tally.add_query("SELECT a WHERE b = 3", 10)
    tally.add_query("SELECT a WHERE b = 1", 10)
    [found] = tally.repeated()
    assert (found.runs, found.elapsed_ns) == (7, 70)
    assert tally.duplicates() == (6, 60)


def test_failures_are_counted_beside_the_rest() -> None:
    """A query that failed has run, and has taken its time."""
    tally = QueryTally()
    for failed in (True, False, True):
        tally.add_query("SELECT a", 10, failed)
    assert (tally.count, tally.elapsed_ns, tally.errors) == (3, 30, 2)


def test_new_tally_is_empty() -> None:
    """Nothing is known of a database that was not asked."""
    tally = QueryTally()
    for name in "count elapsed_ns errors connects connect_ns txn_ns rows fetch_ns".split():
        assert getattr(tally, name) == 0, name
    assert tally.duplicates() == (0, 0)
    assert not tally.has_texts()
    assert tally.repeated() == []


def test_there_is_something_to_name_when_a_query_repeats_or_is_slow() -> None:
    """Either is enough."""
    repeats, slow = QueryTally(), QueryTally()
    for _ in range(5):
        repeats.add_query("SELECT a", 1)
    slow.add_query("SELECT a", thresholds.slow_ns + 1)
    assert repeats.has_texts()
    assert slow.has_texts()
    assert repeats.slowest_text is None
