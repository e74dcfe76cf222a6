"""The rows of an event that tell of its databases. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from otel_canonical.event.fields import AttributeValue, FieldValue
from otel_canonical.event.rows import (
    CONNECTS,
    DETAILS,
    LOOSE,
    QUERIES,
    TRANSACTIONS,
    Detail,
    FilledRow,
    Pair,
    Values,
    known_text,
    seconds,
    seconds_text,
)
from otel_canonical.event.sql_text import LINE_BYTES, line_text, normalized, shortened
from otel_canonical.request.query_tally import QueryTally
from otel_canonical.request.slow_queries import SlowQuery

#: The most bytes of a plan on a line.
PLAN_BYTES = 2000


def add_database_facts(rows: list[FilledRow], queries: QueryTally) -> None:
    """Append the rows of a request that has used a database."""
    dup_queries, dup_ns = queries.duplicates()
    times = (queries.elapsed_ns, dup_queries, dup_ns, queries.fetch_ns)
    rows.append((QUERIES, (queries.count, *times, queries.rows)))
    if queries.connect_ns:
        rows.append((CONNECTS, (queries.connects, queries.connect_ns)))
    if queries.txn_ns:
        rows.append((TRANSACTIONS, (queries.txn_ns,)))
    if queries.errors:
        rows.append((LOOSE, [("db_errors", queries.errors)]))
    if queries.has_texts():
        slowest = (queries.slowest_text, queries.slowest_ns, queries.slowest_loc)
        rows.append((NAMED_QUERIES, (queries.repeated(), *slowest, *_ROOM)))


def slow_query_details(query: SlowQuery, plan: str) -> list[Detail]:
    """Return what the event of a slow query says of it."""
    details: list[Detail] = []
    _add_text(details, "db_query", normalized(query.sql))
    _add(details, "db_query_time", seconds(query.elapsed_ns))
    _add(details, "db_query_loc", query.loc)
    _add(details, "db_alias", query.alias)
    details.append(("db_plan", shortened(" / ".join(plan.split("\n")), PLAN_BYTES), plan))
    return details


class NamedQueriesRow:
    """The repeated queries and the slowest one; lists are made only for spans and log events.

    Its values are the repeated queries, the worst first, and the slowest one's text, nanoseconds and line.
    """

    def as_logfmt(self, values: Values) -> str:
        """Return the fields as they are written on a line."""
        repeated, slowest_text, *_ = values
        if slowest_text is not None:
            return DETAILS.as_logfmt(self.details(values))
        # As the details are written, without making them: most requests have one repeated query.
        text, runs, elapsed_ns, loc = repeated[0]
        text = line_text(text)
        named = f"db_n1={known_text(text)} " if text else ""
        where = f" db_n1_loc={known_text(loc)}" if loc is not None else ""
        return f"{named}db_n1_count={runs} db_n1_time={seconds_text(elapsed_ns)}{where}"

    def pairs(self, values: Values) -> Iterable[Pair]:
        """Return the fields of the line as keys and values."""
        return DETAILS.pairs(self.details(values))

    def attributes(self, values: Values) -> dict[str, AttributeValue]:
        """Return the fields as span attributes."""
        return DETAILS.attributes(self.details(values))

    def details(self, values: Values) -> list[Detail]:
        """Return the fields with what lines and attributes show of them."""
        repeated, slowest_text, slowest_ns, slowest_loc, *_ = values
        details: list[Detail] = []
        if repeated:
            worst = repeated[0]
            texts = tuple([normalized(query.text) for query in repeated])
            _add_text(details, "db_n1", texts[0])
            _add(details, "db_n1_count", worst.runs)
            _add(details, "db_n1_time", seconds(worst.elapsed_ns))
            _add(details, "db_n1_loc", worst.loc)
            details += (
                ("db_n1_queries", None, texts),
                ("db_n1_counts", None, tuple([query.runs for query in repeated])),
                ("db_n1_times", None, tuple([seconds(query.elapsed_ns) for query in repeated])),
                ("db_n1_locs", None, tuple([query.loc or "" for query in repeated])),
            )
        if slowest_text is not None:
            _add_text(details, "db_slowest", normalized(slowest_text))
            _add(details, "db_slowest_time", seconds(slowest_ns))
            _add(details, "db_slowest_loc", slowest_loc)
        return details


#: The only instance needed: it has no state.
NAMED_QUERIES = NamedQueriesRow()

#: An event has at most as many attributes as its rows have values.
_ROOM = (None,) * 7


def _add(details: list[Detail], key: str, value: FieldValue | None) -> None:
    if value is not None:
        details.append((key, value, value))


def _add_text(details: list[Detail], key: str, text: str) -> None:
    if text:
        details.append((key, shortened(text, LINE_BYTES), text))
