"""The sections of a report about all requests: outcomes, routes, where the time goes, saturation."""

from __future__ import annotations

from otel_canonical.reading.report_scope import Scope
from otel_canonical.reading.sections import Column, Picture, Section

#: The places that a request's time is spent in, with their SQL; they don't overlap.
PLACES = {
    "database": "database_time",
    "view": "coalesce(view_time, 0)",
    "templates": "coalesce(tpl_self_time, 0)",
    "middleware": "coalesce(mw_time, 0)",
    "body": "coalesce(body_time, 0)",
    "outgoing HTTP": "coalesce(http_time, 0)",
    "cache": "coalesce(cache_time, 0)",
    "other systems": "systems_time",
    "the rest": "coalesce(resp_other_time, 0)",
}
_KNOWN = " + ".join(PLACES.values())
#: Of lines that were written before there were places, and of `lost` ones.
NOT_KNOWN = "not told apart"

_PERCENTILES = tuple((f"p{n}", f"quantile_cont(resp_time, {n / 100})") for n in (50, 95, 99))
_P_COLUMNS = tuple(Column(name, "seconds") for name, _ in _PERCENTILES)
_P_SQL = ", ".join(sql for _, sql in _PERCENTILES)

#: The upper ends of the classes of durations, in seconds.
HEAT_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


def traffic(scope: Scope, parts: int) -> Section:
    """Return what was asked and how it ended, over time."""
    outcomes = {
        "ok": "NOT failed AND coalesce(resp_status, 0) < 400",
        "4xx": "event_type = 'request' AND resp_status BETWEEN 400 AND 499",
        "5xx": "event_type = 'request' AND resp_status >= 500",
        "timeout": "event_type = 'timeout'",
        "lost": "event_type = 'lost'",
    }
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in outcomes.values())
    rows = scope.rows(
        f"SELECT {scope.bucket(parts)} AS part, count(*), {counts}, {_P_SQL} "
        "FROM endings GROUP BY part ORDER BY part"
    )
    columns = (
        Column("from", "moment"),
        Column("requests", "count"),
        *(Column(name, "count") for name in outcomes),
        *_P_COLUMNS,
    )
    picture = Picture("stack", tuple(outcomes), f"requests per {_per(scope.bucket_s(parts))}")
    return Section("traffic", "Traffic and outcomes", columns, rows, picture)


def durations(scope: Scope, parts: int) -> Section:
    """Return percentiles over time."""
    rows = scope.rows(
        f"SELECT {scope.bucket(parts)} AS part, count(*), {_P_SQL}, max(resp_time) "
        "FROM endings GROUP BY part ORDER BY part"
    )
    columns = (
        Column("from", "moment"),
        Column("requests", "count"),
        *_P_COLUMNS,
        Column("longest", "seconds"),
    )
    return Section(
        "durations",
        "Durations over time",
        columns,
        rows,
        Picture("lines", ("p50", "p95", "p99"), "s"),
    )


def routes(scope: Scope) -> Section:
    """Return each route with what it costs, the dearest first."""
    part = "sum({}) / nullif(sum(resp_time), 0)"
    rows = scope.rows(f"""
        SELECT route, count(*), sum(resp_time) AS total, {_P_SQL},
            {part.format("database_time")}, {part.format("repeated_time")},
            {part.format("coalesce(tpl_self_time, tpl_time, 0)")},
            {part.format("coalesce(http_time, 0)")}, {part.format("coalesce(resp_cpu_wait, 0)")},
            count(*) FILTER (failed)
        FROM endings GROUP BY route ORDER BY total DESC NULLS LAST, route
    """)
    columns = (
        Column("route"),
        Column("requests", "count"),
        Column("total", "seconds"),
        *_P_COLUMNS,
        *(Column(name, "share") for name in ("db", "n+1", "tpl", "http", "cpu wait")),
        Column("failed", "count"),
    )
    return Section(
        "routes",
        "Routes by total time",
        columns,
        rows,
        Picture("bars", ("total",), "total time"),
    )


def places(scope: Scope) -> Section:
    """Return where the time of each route goes, in seconds of all its requests."""
    sums = ", ".join(f"sum({sql})" for sql in PLACES.values())
    rows = scope.rows(f"""
        SELECT route, sum(resp_time) AS total, {sums},
            sum(greatest(coalesce(resp_time, 0) - ({_KNOWN}), 0)),
            sum(coalesce(resp_cpu_time, 0)), sum(coalesce(resp_cpu_wait, 0)),
            sum(coalesce(resp_blocked, 0))
        FROM endings GROUP BY route ORDER BY total DESC NULLS LAST, route
    """)
    names = (*PLACES, NOT_KNOWN)
    columns = (
        Column("route"),
        Column("total", "seconds"),
        *(Column(name, "seconds") for name in (*names, "on a CPU", "waiting for a CPU", "blocked")),
    )
    return Section(
        "places", "Where the time goes", columns, rows, Picture("parts", names, "total time")
    )


def saturation(scope: Scope, parts: int) -> Section:
    """Return how full the pool was, over time: by each line's own look at it."""
    rows = scope.rows(f"""
        SELECT {scope.bucket(parts)} AS part,
            avg(coalesce(g_t_active / nullif(g_t_count, 0), g_w_active / nullif(g_w_count, 0))),
            max(coalesce(g_t_active / nullif(g_t_count, 0), g_w_active / nullif(g_w_count, 0))),
            avg(g_utilization), max(g_t_waiting), max(g_backlog), quantile_cont(req_queue_time, 0.95),
            max(g_w_count)
        FROM seen GROUP BY part ORDER BY part
    """)
    columns = (
        Column("from", "moment"),
        Column("busy, mean", "share"),
        Column("busy, most", "share"),
        Column("utilisation", "share"),
        Column("waiting, most", "count"),
        Column("backlog, most", "count"),
        Column("queue time p95", "seconds"),
        Column("workers", "count"),
    )
    picture = Picture("lines", ("busy, mean", "busy, most"), "share of slots that are busy")
    return Section("saturation", "Saturation, queue and backlog", columns, rows, picture)


def heat(scope: Scope, parts: int) -> Section:
    """Return how many requests took how long, over time."""
    bounds = [0.0, *HEAT_BOUNDS_S]
    counts = [
        f"count(*) FILTER (resp_time >= {low} AND resp_time < {high})"
        for low, high in zip(bounds, [*HEAT_BOUNDS_S, 1e12], strict=True)
    ]
    rows = scope.rows(
        f"SELECT {scope.bucket(parts)} AS part, {', '.join(counts)} FROM endings GROUP BY part ORDER BY part"
    )
    names = [f"< {_bound(high)}" for high in HEAT_BOUNDS_S] + [f">= {_bound(HEAT_BOUNDS_S[-1])}"]
    columns = (Column("from", "moment"), *(Column(name, "count") for name in names))
    return Section(
        "heat", "How long requests took", columns, rows, Picture("heat", tuple(names), "requests")
    )


def _bound(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def _per(seconds: int) -> str:
    if seconds % 3600 == 0:
        return "hour" if seconds == 3600 else f"{seconds // 3600} hours"
    if seconds % 60 == 0:
        return "minute" if seconds == 60 else f"{seconds // 60} minutes"
    return "second" if seconds == 1 else f"{seconds} seconds"
