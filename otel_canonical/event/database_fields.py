"""The fields about a request's databases. Pure."""

from __future__ import annotations

from otel_canonical.event.field_description import describe_field as _field

#: In the order of the line.
DATABASE_FIELDS = (
    _field(
        "db_queries",
        "canonical.db.queries",
        "int",
        "queries of the app, summed over all databases; setting up and checking connections and "
        "transaction control are not counted",
    ),
    _field("db_time", "canonical.db.time", "float", "total time in executing them", unit="s"),
    _field(
        "db_dup_queries",
        "canonical.db.dup_queries",
        "int",
        "runs of SQL texts that ran more than once: a sign of N+1",
    ),
    _field("db_dup_time", "canonical.db.dup_time", "float", "total time in these", unit="s"),
    _field(
        "db_fetch_time",
        "canonical.db.fetch_time",
        "float",
        "time in fetching rows; SQLite and server-side cursors find them only then",
        unit="s",
    ),
    _field("db_rows", "canonical.db.rows", "int", "rows fetched"),
    _field(
        "db_connects",
        "canonical.db.connects",
        "int",
        "connections opened, or taken from a pool; 0 if one was only checked",
    ),
    _field(
        "db_connect_time",
        "canonical.db.connect_time",
        "float",
        "time in opening and setting up connections, in waiting for a pool's, and in health checks",
        unit="s",
    ),
    _field(
        "db_txn_time",
        "canonical.db.txn_time",
        "float",
        "time in BEGIN, COMMIT, ROLLBACK and savepoints; when there are any",
        unit="s",
    ),
    _field(
        "db_errors", "canonical.db.errors", "int", "queries that raised; only when there are any"
    ),
    _field(
        "db_n1",
        "canonical.db.n1.query",
        "str",
        "the repeated query (N+1) that took the most time, if it ran at least "
        "`OTEL_PYTHON_CANONICAL_N_PLUS_ONE` times: its text, literals replaced by `?`",
    ),
    _field("db_n1_count", "canonical.db.n1.count", "int", "how often it ran"),
    _field("db_n1_time", "canonical.db.n1.time", "float", "time in it", unit="s"),
    _field(
        "db_n1_loc",
        "canonical.db.n1.loc",
        "str",
        "the app's line that asked for it, `file:line:function`; in a template `name:line`, then `<` and "
        "the app's line that rendered it",
    ),
    _field(
        "db_slowest",
        "canonical.db.slowest.query",
        "str",
        "the slowest query, if it took longer than `OTEL_PYTHON_CANONICAL_DB_SLOW_SECONDS`",
    ),
    _field("db_slowest_time", "canonical.db.slowest.duration", "float", "time in it", unit="s"),
    _field("db_slowest_loc", "canonical.db.slowest.loc", "str", "the app's line that asked for it"),
    _field(
        "db_query",
        "canonical.db.query",
        "str",
        "a slow query, literals replaced by `?`; on `slow_query` lines only, as is what follows",
    ),
    _field("db_query_time", "canonical.db.query_time", "float", "time in it", unit="s"),
    _field("db_query_loc", "canonical.db.query_loc", "str", "the app's line that asked for it"),
    _field("db_alias", "canonical.db.alias", "str", "Django's name of its database"),
    _field(
        "db_plan", "canonical.db.plan", "str", "how the database finds its rows, without literals"
    ),
)

#: Lists of the worst repeated queries, on spans and log events only: keys, as the operator excludes them,
#: and attributes.
DATABASE_LISTS = {
    "db_n1_queries": "canonical.db.n1.queries",
    "db_n1_counts": "canonical.db.n1.counts",
    "db_n1_times": "canonical.db.n1.times",
    "db_n1_locs": "canonical.db.n1.locs",
}
