"""Tallies: counts, times and duplicates of queries and calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.request.query_tally import DISTINCT_SQL_TEXTS, QueryTally
from otel_canonical.request.tallies import CallTally, WebsocketTally

#: Few texts, so that some repeat; times as a clock gives them.
RUNS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 10**12), st.booleans()))


def test_tally_is_empty_when_nothing_ran() -> None:
    """A new tally has counted nothing and knows no duplicates."""
    tally = QueryTally()
    assert (tally.count, tally.elapsed_ns, tally.errors) == (0, 0, 0)
    assert tally.duplicates() == (0, 0)


def test_tally_of_a_websocket_begins_at_nothing() -> None:
    """No message yet, and no code: it is open."""
    tally = WebsocketTally()
    assert (tally.received, tally.sent, tally.close_code) == (0, 0, None)


def test_totals_are_sums_when_calls_end() -> None:
    """Counts, times and failures add up; a call hasn't failed unless it is said."""
    tally = CallTally()
    tally.add(5)
    tally.add(7, failed=True)
    tally.add(0, failed=False)
    assert (tally.count, tally.elapsed_ns, tally.errors) == (3, 12, 1)


def test_every_run_is_duplicate_when_text_repeats() -> None:
    """The first run of a repeated text is one of its duplicates; a single text is none."""
    tally = QueryTally()
    for text, elapsed_ns in (("a", 1), ("b", 10), ("a", 100), ("c", 1000), ("a", 10000)):
        tally.add_query(text, elapsed_ns)
    assert tally.count == 5
    assert tally.duplicates() == (3, 10101)


def test_failed_run_is_duplicate_as_well() -> None:
    """A query that failed and was run again is two runs of a text, one of them failed."""
    tally = QueryTally()
    tally.add_query("a", 1, failed=True)
    tally.add_query("a", 2)
    assert (tally.count, tally.errors, tally.duplicates()) == (2, 1, (2, 3))


def test_memory_is_bounded_when_every_text_is_another() -> None:
    """Values pasted into the text make endless texts: all are counted, few are remembered."""
    tally = QueryTally()
    for n in range(3 * DISTINCT_SQL_TEXTS):
        tally.add_query(f"SELECT {n}", 1)
    assert tally.count == 3 * DISTINCT_SQL_TEXTS
    assert len(tally._by_text) == DISTINCT_SQL_TEXTS
    assert tally.duplicates() == (0, 0)
    tally.add_query("SELECT 0", 1)
    assert tally.duplicates() == (2, 2)


class _Interrupted(list[int]):
    """The runs of a text, at which a query of another thread ends whenever they are looked at."""

    def __init__(self, tally: QueryTally, runs: list[int]) -> None:
        super().__init__(runs)
        self._tally = tally

    def __iter__(self) -> Iterator[int]:
        self._tally.add_query(f"SELECT {self._tally.count}", 1)
        return super().__iter__()


def test_duplicates_are_told_while_another_thread_queries() -> None:
    """The watchdog asks while the request runs on, and a view's thread may outlast its request."""
    tally = QueryTally()
    for text in ("a", "a", "b", "b"):
        tally.add_query(text, 10)
    for text, runs in tally._by_text.items():
        tally._by_text[text] = _Interrupted(tally, runs)
    assert tally.duplicates() == (4, 40)
    assert tally.count == 6


@given(RUNS)
def test_totals_equal_a_plain_sum(runs: list[tuple[str, int, bool]]) -> None:
    """Whatever ran in whatever order, the totals are those of a list of all runs."""
    tally = QueryTally()
    for text, elapsed_ns, failed in runs:
        tally.add_query(text, elapsed_ns, failed)
    times = Counter(text for text, _, _ in runs)
    repeated = [elapsed_ns for text, elapsed_ns, _ in runs if times[text] > 1]
    assert tally.count == len(runs)
    assert tally.elapsed_ns == sum(elapsed_ns for _, elapsed_ns, _ in runs)
    assert tally.errors == sum(failed for _, _, failed in runs)
    assert tally.duplicates() == (len(repeated), sum(repeated))
