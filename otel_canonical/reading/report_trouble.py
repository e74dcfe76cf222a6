"""The sections of a report about what went wrong, each by its place in the code."""

from __future__ import annotations

from otel_canonical.reading.report_scope import SUSPECT_REPEATS, Scope
from otel_canonical.reading.sections import Column, Picture, Section

_COUNT = Column("requests", "count")
_ROUTE = Column("route")


def repeated(scope: Scope) -> Section:
    """Return the queries that are repeated within a request, the dearest first."""
    rows = scope.rows(f"""
        SELECT coalesce(db_n1_loc, resp_view) AS place, mode(route),
            coalesce(db_n1, '(not named on these lines)') AS query, count(*),
            quantile_cont(coalesce(db_n1_count, db_dup_queries), 0.5), sum(repeated_time) AS total
        FROM endings WHERE db_n1 IS NOT NULL OR db_dup_queries >= {SUSPECT_REPEATS}
        GROUP BY place, query ORDER BY total DESC NULLS LAST, place, query
    """)
    columns = (
        Column("at"),
        _ROUTE,
        Column("query"),
        _COUNT,
        Column("times each", "count"),
        Column("total", "seconds"),
    )
    return Section(
        "n1",
        "Queries repeated within a request (N+1)",
        columns,
        rows,
        Picture("bars", ("total",), "time in them"),
        empty="no query was repeated",
    )


def slowest(scope: Scope) -> Section:
    """Return the slowest queries of requests that had a slow one, by what they took together."""
    rows = scope.rows("""
        SELECT db_slowest_loc AS place, mode(route), db_slowest AS query, count(*),
            sum(db_slowest_time) AS total, quantile_cont(db_slowest_time, 0.5), max(db_slowest_time)
        FROM endings WHERE db_slowest_time IS NOT NULL
        GROUP BY place, query ORDER BY total DESC, place, query
    """)
    columns = (
        Column("at"),
        _ROUTE,
        Column("query"),
        _COUNT,
        *(Column(name, "seconds") for name in ("total", "p50", "longest")),
    )
    return Section(
        "slowest",
        "Slowest queries",
        columns,
        rows,
        Picture("bars", ("total",), "time in them"),
        empty="no query was slow",
    )


def exceptions(scope: Scope) -> Section:
    """Return exceptions by class and place, those that failed most requests first."""
    rows = scope.rows("""
        SELECT exc_type AS kind, coalesce(exc_cause_loc, exc_loc) AS place, mode(nullif(route, '')),
            count(*) FILTER (event_type <> 'partial_failure' AND coalesce(resp_status, 500) >= 500)
                AS failures,
            count(*) FILTER (event_type = 'partial_failure'), count(*), min(ts), max(ts), min(exc_msg)
        FROM limited WHERE exc_type IS NOT NULL
        GROUP BY kind, place ORDER BY failures DESC, count(*) DESC, kind, place
    """)
    columns = (
        Column("exception"),
        Column("at"),
        _ROUTE,
        *(Column(name, "count") for name in ("failed", "survived", "all")),
        *(Column(name, "moment") for name in ("first", "last")),
        Column("message"),
    )
    return Section(
        "exceptions",
        "Exceptions",
        columns,
        rows,
        Picture("bars", ("failed", "survived"), "requests"),
        empty="no exception",
    )


def timeouts(scope: Scope) -> Section:
    """Return where requests were stuck that Gunicorn aborted, or that were late."""
    rows = scope.rows("""
        SELECT coalesce(timeout_cause_loc, timeout_loc, '(not seen)') AS place, mode(route),
            count(*) FILTER (event_type = 'timeout') AS aborted,
            count(*) FILTER (event_type = 'request'), min(ts), max(ts)
        FROM endings WHERE event_type = 'timeout' OR deadline_exceeded
        GROUP BY place ORDER BY aborted DESC, count(*) DESC, place
    """)
    columns = (
        Column("stuck at"),
        _ROUTE,
        *(Column(name, "count") for name in ("timeouts", "late")),
        *(Column(name, "moment") for name in ("first", "last")),
    )
    return Section(
        "timeouts",
        "Timeouts",
        columns,
        rows,
        Picture("bars", ("timeouts", "late"), "requests"),
        empty="no timeout",
    )


def lost(scope: Scope) -> Section:
    """Return why workers died with requests open."""
    rows = scope.rows("""
        SELECT coalesce(lost_cause, '(not told)') AS cause, coalesce(lost_cause_loc, lost_loc) AS place,
            mode(route), count(*) AS many, min(ts), max(ts)
        FROM endings WHERE event_type = 'lost'
        GROUP BY cause, place ORDER BY many DESC, cause, place
    """)
    columns = (
        Column("cause"),
        Column("at"),
        _ROUTE,
        _COUNT,
        *(Column(name, "moment") for name in ("first", "last")),
    )
    return Section(
        "lost",
        "Requests lost with their worker",
        columns,
        rows,
        Picture("bars", ("requests",), "requests"),
        empty="no request was lost",
    )


def memory(scope: Scope) -> Section:
    """Return the routes whose requests made workers grow."""
    rows = scope.rows("""
        SELECT route, count(*), sum(mem_growth) AS total, max(mem_growth)
        FROM endings WHERE mem_growth IS NOT NULL GROUP BY route ORDER BY total DESC, route
    """)
    columns = (
        _ROUTE,
        _COUNT,
        Column("grown", "bytes"),
        Column("most at once", "bytes"),
    )
    return Section(
        "memory",
        "Memory growth by route",
        columns,
        rows,
        Picture("bars", ("grown",), "bytes"),
        empty="no worker grew",
    )


def neighbours(scope: Scope) -> Section:
    """Return which routes were open in the pool when requests were late, slow or died."""
    rows = scope.rows("""
        WITH late AS (
            SELECT row_number() OVER () AS n, g_open FROM seen WHERE g_open IS NOT NULL
        ), open AS (
            SELECT n, unnest(string_split(g_open, ' ')) AS one FROM late
        ), counted AS (
            SELECT n, regexp_extract(one, '^\\d+\\*(.*)$', 1) AS route,
                try_cast(regexp_extract(one, '^(\\d+)\\*', 1) AS BIGINT) AS many
            FROM open WHERE one LIKE '%*%'
        )
        SELECT route, count(DISTINCT n) AS late,
            count(DISTINCT n) / (SELECT count(*) FROM late), avg(many), max(many)
        FROM counted GROUP BY route ORDER BY sum(many) DESC, late DESC, route
    """)
    columns = (
        Column("open route"),
        Column("late requests", "count"),
        Column("of all late", "share"),
        Column("open at once", "count"),
        Column("most at once", "count"),
    )
    return Section(
        "neighbours",
        "Open when others were late (noisy neighbours)",
        columns,
        rows,
        Picture("bars", ("late requests",), "late requests"),
        empty="no request was late",
    )


def gone(scope: Scope) -> Section:
    """Return the routes whose clients left before the answer was complete."""
    rows = scope.rows("""
        SELECT route, count(*) FILTER (client_gone) AS gone, count(*) FILTER (client_gone) / count(*),
            quantile_cont(resp_time, 0.5) FILTER (client_gone)
        FROM endings GROUP BY route HAVING gone > 0 ORDER BY gone DESC, route
    """)
    columns = (
        _ROUTE,
        Column("clients gone", "count"),
        Column("of all", "share"),
        Column("after, p50", "seconds"),
    )
    return Section(
        "gone",
        "Clients gone",
        columns,
        rows,
        Picture("bars", ("clients gone",), "requests"),
        empty="no client left",
    )
