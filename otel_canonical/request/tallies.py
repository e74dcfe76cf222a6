"""Running totals of what one request did: queries and calls. Pure."""

from __future__ import annotations

#: Distinct SQL texts remembered per request to tell duplicates; a request that builds more
#: (values pasted into the text) is still counted, its further texts just can't be duplicates.
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
    """Database queries, with those whose SQL text ran more than once told apart."""

    __slots__ = ("_by_text",)

    def __init__(self) -> None:
        super().__init__()
        self._by_text: dict[str, list[int]] = {}

    def add_query(self, text: str, elapsed_ns: int, failed: bool = False) -> None:
        """Fold one query in. `text` is the SQL before its parameters are filled in."""
        # As `add` does, without its call: this runs for every query.
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
            # Copied: the watchdog asks while the request goes on, and an ASGI one may leave a thread behind.
            for runs, run_ns in list(self._by_text.values()):
                if runs > 1:
                    count += runs
                    elapsed_ns += run_ns
        return count, elapsed_ns
