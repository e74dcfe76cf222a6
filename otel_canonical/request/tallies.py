"""Running totals of what one request did: queries and calls. Pure."""

from __future__ import annotations

#: The most distinct SQL texts remembered per request, to find duplicates. Queries with further texts
#: are counted, but not as duplicates.
DISTINCT_SQL_TEXTS = 1000


class CallTally:
    """How often something was called, how long it took in sum, how often it failed.

    Calls that overlap (threads, async) are summed, so `elapsed_ns` may exceed the request's own time.
    """

    __slots__ = ("count", "elapsed_ns", "errors")

    def __init__(self) -> None:
        self.count = 0
        self.elapsed_ns = 0
        self.errors = 0

    def add(self, elapsed_ns: int, failed: bool = False) -> None:
        """Fold one call in."""
        self.count += 1
        self.elapsed_ns += elapsed_ns
        if failed:
            self.errors += 1


class QueryTally(CallTally):
    """Database queries, and which SQL texts ran more than once."""

    __slots__ = ("_by_text",)

    def __init__(self) -> None:
        super().__init__()
        self._by_text: dict[str, list[int]] = {}

    def add_query(self, text: str, elapsed_ns: int, failed: bool = False) -> None:
        """Fold one query in. `text` is the SQL before its parameters are filled in."""
        # A copy of `add`, without its call: this runs for every query.
        self.count += 1
        self.elapsed_ns += elapsed_ns
        if failed:
            self.errors += 1
        by_text = self._by_text
        if text in by_text:
            seen = by_text[text]
            seen[0] += 1
            seen[1] += elapsed_ns
        elif len(by_text) < DISTINCT_SQL_TEXTS:
            by_text[text] = [1, elapsed_ns]

    def duplicates(self) -> tuple[int, int]:
        """Return (queries, nanoseconds) of every run of a text that ran more than once."""
        count = elapsed_ns = 0
        if len(self._by_text) < self.count:
            # Copied: the watchdog reads this while the request runs, and a request may leave threads behind.
            for runs, run_ns in list(self._by_text.values()):
                if runs > 1:
                    count += runs
                    elapsed_ns += run_ns
        return count, elapsed_ns
