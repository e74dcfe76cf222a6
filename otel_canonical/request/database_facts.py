"""The rows of an event that tell of its databases. Pure."""

from __future__ import annotations

from otel_canonical.event.event import seconds
from otel_canonical.event.fields import FieldValue
from otel_canonical.event.rows import (
    CONNECTS,
    DETAILS,
    LOOSE,
    QUERIES,
    TRANSACTIONS,
    Detail,
    FilledRow,
)
from otel_canonical.event.sql_text import LINE_BYTES, normalized, shortened
from otel_canonical.request.query_tally import QueryTally
from otel_canonical.request.slow_queries import SlowQuery

#: The most bytes of a plan on a line.
PLAN_BYTES = 2000


def add_database_facts(rows: list[FilledRow], queries: QueryTally) -> None:
    """Append the rows of a request that has used a database."""
    dup_queries, dup_ns = queries.duplicates()
    times = (queries.elapsed_ns / 1e9, dup_queries, dup_ns / 1e9)
    rows.append((QUERIES, (queries.count, *times, queries.fetch_ns / 1e9, queries.rows)))
    if queries.connect_ns:
        rows.append((CONNECTS, (queries.connects, queries.connect_ns / 1e9)))
    if queries.txn_ns:
        rows.append((TRANSACTIONS, (queries.txn_ns / 1e9,)))
    if queries.errors:
        rows.append((LOOSE, [("db_errors", queries.errors)]))
    if queries.has_texts():
        rows.append((DETAILS, _details(queries)))


def slow_query_details(query: SlowQuery, plan: str) -> list[Detail]:
    """Return what the event of a slow query says of it."""
    details: list[Detail] = []
    _add_text(details, "db_query", normalized(query.sql))
    _add(details, "db_query_time", seconds(query.elapsed_ns))
    _add(details, "db_query_loc", query.loc)
    _add(details, "db_alias", query.alias)
    details.append(("db_plan", shortened(" / ".join(plan.split("\n")), PLAN_BYTES), plan))
    return details


def _details(queries: QueryTally) -> list[Detail]:
    details: list[Detail] = []
    repeated = queries.repeated()
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
    if queries.slowest_text is not None:
        _add_text(details, "db_slowest", normalized(queries.slowest_text))
        _add(details, "db_slowest_time", seconds(queries.slowest_ns))
        _add(details, "db_slowest_loc", queries.slowest_loc)
    return details


def _add(details: list[Detail], key: str, value: FieldValue | None) -> None:
    if value is not None:
        details.append((key, value, value))


def _add_text(details: list[Detail], key: str, text: str) -> None:
    if text:
        details.append((key, shortened(text, LINE_BYTES), text))
