"""The database work of one request: totals, repeated queries (N+1), the slowest query. Pure.

Adding a query is on the path of every query of every request. What costs more, looking up the line of
code, happens only when a text becomes a suspect: on its fifth run, or when it is slower than a threshold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_canonical.request.tallies import CallTally
from otel_canonical.stacks import query_location

if TYPE_CHECKING:
    from otel_canonical.request.slow_queries import SlowQuery

#: The most distinct SQL texts, and shapes of texts, remembered per request. Queries with further texts
#: are counted, but not as duplicates.
DISTINCT_SQL_TEXTS = 1000

#: The most lines of code looked up per request.
MOST_LOCATIONS = 10

#: How many repeated queries the root span and the log event carry.
MOST_SHOWN = 5

#: How many shapes are remembered for all requests together, and of texts of how many characters.
MOST_SHAPES, LONGEST_REMEMBERED = 4096, 4000

#: Only the beginning of a longer text has a say in its shape.
LONGEST_SHAPE = 20_000

#: Texts of one shape differ only in their literals and in the lengths of their lists.
_LITERALS = re.compile(r"'(?:[^']|'')*'|(?<![\w.\"`$%])\d+(?:\.\d+)?(?![\w\"`])")
_LISTS = re.compile(
    r"(\bIN\s*)\(\s*(?:\?|%s|:\w+|%\(\w+\)s)(?:\s*,\s*(?:\?|%s|:\w+|%\(\w+\)s))*\s*\)",
    re.IGNORECASE,
)
_HAS_LITERAL_OR_LIST = re.compile(r"'|\bIN\s*\(|(?<![\w.\"`$%])\d", re.IGNORECASE).search


@dataclass(slots=True)
class Thresholds:
    """When a query is worth naming."""

    #: How many runs make a text a suspect of N+1.
    n_plus_one: int = 5
    slow_ns: int = 100_000_000


#: Those of this process; set in the worker.
thresholds = Thresholds()


class RepeatedQuery(NamedTuple):
    """A query that ran often; `loc` is the line of the app that asked for it, if it is known."""

    text: str
    runs: int
    elapsed_ns: int
    loc: str | None


class _Suspect(NamedTuple):
    text: str
    #: Runs and nanoseconds so far, in the list that `add_query` updates.
    runs: list[Any]
    loc: str | None


class QueryTally(CallTally):
    """What one request asked of its databases."""

    __slots__ = (
        *("_by_shape", "_by_text", "_locations_left", "_suspect_runs", "_suspects", "_texts_left"),
        *("connect_ns", "connects", "fetch_ns", "rows", "txn_ns"),
        *("slow", "slowest_loc", "slowest_ns", "slowest_text"),
    )

    def __init__(self) -> None:
        # As `CallTally` does, without its call.
        self.count = self.elapsed_ns = self.errors = 0
        #: Runs, nanoseconds, and the entry in `_by_shape` if the text's shape is another text.
        self._by_text: dict[str, list[Any]] = {}
        self._by_shape: dict[str, list[Any]] = {}
        self._suspects: list[_Suspect] = []
        self._suspect_runs = thresholds.n_plus_one
        self._locations_left = MOST_LOCATIONS
        self._texts_left = DISTINCT_SQL_TEXTS
        #: Connections opened, and the time in that, in waiting for a pool and in health checks.
        self.connects = self.connect_ns = 0
        #: Time in BEGIN, COMMIT, ROLLBACK and savepoints.
        self.txn_ns = 0
        self.rows = self.fetch_ns = 0
        #: A query is noted here if it takes longer than this: the slowest one yet, or the threshold.
        self.slowest_ns = thresholds.slow_ns
        #: Queries whose plan is to be fetched, see `slow_queries`.
        self.slow: list[SlowQuery] = []
        self.slowest_text: str | None = None
        self.slowest_loc: str | None = None

    def add_query(self, text: str, elapsed_ns: int, failed: bool = False) -> None:
        """Add one query. `text` is the SQL before its parameters are filled in."""
        # A copy of `CallTally.add`, without its call: this runs for every query.
        self.count += 1
        self.elapsed_ns += elapsed_ns
        if failed:
            self.errors += 1
        by_text = self._by_text
        if text in by_text:
            runs = by_text[text]
            runs[0] += 1
            runs[1] += elapsed_ns
            by_shape = runs[2]
            if by_shape is not None:
                # As `_add_to_shape` does, without its call.
                by_shape[0] += 1
                by_shape[1] += elapsed_ns
                if by_shape[0] == self._suspect_runs:
                    self._suspects.append(_Suspect(text, by_shape, self._locate(text)))
            elif runs[0] == self._suspect_runs:
                self._suspects.append(_Suspect(text, runs, self._locate(text)))
        else:
            self._add_text(text, elapsed_ns)
        if elapsed_ns > self.slowest_ns:
            self.slowest_ns = elapsed_ns
            self.slowest_text = text
            self.slowest_loc = self._locate(text)

    def _add_text(self, text: str, elapsed_ns: int) -> None:
        # No calls of `get` and `len` where there are other ways: this runs for most queries. Another
        # thread may empty `_shapes` at any moment.
        try:
            shape = _shapes[text]
        except KeyError:
            shape = shape_of(text)
        by_shape: list[Any] | None = None
        if shape != text:
            if shape in self._by_shape:
                by_shape = self._by_shape[shape]
            elif len(self._by_shape) < DISTINCT_SQL_TEXTS:
                by_shape = self._by_shape[shape] = [0, 0]
        if self._texts_left > 0:
            self._texts_left -= 1
            self._by_text[text] = [1, elapsed_ns, by_shape]
        if by_shape is not None:
            self._add_to_shape(text, by_shape, elapsed_ns)

    def _add_to_shape(self, text: str, runs: list[Any], elapsed_ns: int) -> None:
        runs[0] += 1
        runs[1] += elapsed_ns
        if runs[0] == self._suspect_runs:
            self._suspects.append(_Suspect(text, runs, self._locate(text)))

    def _locate(self, text: str) -> str | None:
        if self._locations_left <= 0:
            return None
        self._locations_left -= 1
        return query_location.locate(text)

    def duplicates(self) -> tuple[int, int]:
        """Return (queries, nanoseconds) of every run of a text that ran more than once."""
        count = elapsed_ns = 0
        if len(self._by_text) < self.count:
            # Copied: the watchdog reads this while the request runs, and a request may leave threads behind.
            for runs, run_ns, _ in list(self._by_text.values()):
                if runs > 1:
                    count += runs
                    elapsed_ns += run_ns
        return count, elapsed_ns

    def has_texts(self) -> bool:
        """Return whether there is a query to name."""
        return bool(self._suspects) or self.slowest_text is not None

    def repeated(self) -> list[RepeatedQuery]:
        """Return the suspects of N+1 that took the most time, the worst first."""
        if not self._suspects:
            return []
        found = [
            RepeatedQuery(text, runs[0], runs[1], loc) for text, runs, loc in list(self._suspects)
        ]
        if len(found) == 1:
            return found
        found.sort(key=lambda query: query.elapsed_ns, reverse=True)
        return found[:MOST_SHOWN]


def shape_of(text: str) -> str:
    """Return a text with literals and lists of parameters replaced; the text itself if it has none."""
    shape = text
    if _HAS_LITERAL_OR_LIST(text):
        shape = _LISTS.sub(r"\1(?)", _LITERALS.sub("?", text[:LONGEST_SHAPE]))
    if len(text) <= LONGEST_REMEMBERED:
        if len(_shapes) >= MOST_SHAPES:
            _shapes.clear()
        _shapes[text] = shape
    return shape


#: The shapes of texts that were seen: most come again in other requests.
_shapes: dict[str, str] = {}
