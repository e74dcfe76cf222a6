"""What there is to compare of each route: durations in blocks of time, queries, causes of failure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from otel_canonical.reading.report_scope import Scope
from otel_canonical.reading.report_traffic import PLACES

#: A route's requests are cut into so many blocks at most, of so many requests at least. Requests that
#: come after each other share a busy minute, a warm cache, a noisy neighbour: they are no independent
#: witnesses, the medians of blocks nearly are.
MOST_BLOCKS = 40
BLOCK_REQUESTS = 10

#: What went wrong and where.
Cause = str


@dataclass(slots=True)
class RouteProfile:
    """One route of one file."""

    requests: int
    p50: float
    p95: float
    view: str
    #: Mean time of a request in each place, by its name.
    places: dict[str, float]
    medians: list[float] = field(default_factory=list)
    #: The same of the CPU time, which a busy machine changes less.
    cpu: list[float] = field(default_factory=list)
    #: The same of the time in the view's own code: a view is a small part of many requests.
    in_view: list[float] = field(default_factory=list)
    queries: list[float] = field(default_factory=list)
    failures: dict[Cause, int] = field(default_factory=dict)
    #: Requests with a repeated query, by query and place, and the runs of it.
    repeats: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)


def profiles(scope: Scope) -> dict[str, RouteProfile]:
    """Return what there is to compare of every route."""
    means = ", ".join(f"coalesce(avg({sql}), 0)" for sql in PLACES.values())
    found: dict[str, RouteProfile] = {}
    for route, requests, p50, p95, view, *places in scope.rows(f"""
        SELECT route, count(*), coalesce(quantile_cont(resp_time, 0.5), 0),
            coalesce(quantile_cont(resp_time, 0.95), 0), coalesce(mode(resp_view), ''), {means}
        FROM endings GROUP BY route
    """):
        found[route] = RouteProfile(
            requests, p50, p95, view, dict(zip(PLACES, places, strict=True))
        )
    _add_blocks(scope, found)
    for route, cause, many in scope.rows("""
        SELECT route, CASE
                WHEN event_type = 'timeout' THEN 'timeout at ' || coalesce(timeout_cause_loc, timeout_loc, '?')
                WHEN event_type = 'lost' THEN 'lost, ' || coalesce(lost_cause, '?')
                WHEN exc_type IS NOT NULL
                    THEN exc_type || ' at ' || coalesce(exc_cause_loc, exc_loc, exc_template, '?')
                ELSE 'status ' || resp_status END AS cause, count(*)
        FROM endings WHERE failed GROUP BY route, cause
    """):
        found[route].failures[cause] = many
    for route, query, place, many, runs in scope.rows("""
        SELECT route, db_n1, coalesce(db_n1_loc, '?'), count(*), quantile_cont(db_n1_count, 0.5)
        FROM endings WHERE db_n1 IS NOT NULL GROUP BY ALL
    """):
        found[route].repeats[query, place] = (many, runs)
    return found


def _add_blocks(scope: Scope, found: dict[str, RouteProfile]) -> None:
    blocks = defaultdict(list)
    for route, _, median, cpu, in_view, queries in scope.rows(f"""
        WITH counted AS (
            SELECT route, resp_time, resp_cpu_time, view_time, coalesce(db_queries, 0) AS queries,
                row_number() OVER (PARTITION BY route ORDER BY ts) - 1 AS n,
                count(*) OVER (PARTITION BY route) AS of
            FROM endings WHERE NOT failed AND resp_time IS NOT NULL
        ), cut AS (
            SELECT *, n * least({MOST_BLOCKS}, of // {BLOCK_REQUESTS}) // of AS block FROM counted
        )
        SELECT route, block, quantile_cont(resp_time, 0.5),
            coalesce(quantile_cont(resp_cpu_time, 0.5), 0),
            coalesce(quantile_cont(view_time, 0.5), 0), avg(queries)
        FROM cut WHERE of >= {BLOCK_REQUESTS} GROUP BY route, block ORDER BY route, block
    """):
        blocks[route].append((median, cpu, in_view, queries))
    for route, values in blocks.items():
        profile = found[route]
        columns = map(list, zip(*values, strict=True))
        profile.medians, profile.cpu, profile.in_view, profile.queries = columns
