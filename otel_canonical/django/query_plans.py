"""Asks a database for the plan of a query, on a connection that nothing else uses.

Lives where the app is loaded; runs in `worker.plan_worker`'s thread. The connection is opened for one
EXPLAIN, without ANALYZE, in a transaction that may not write, under the database's own time limits, and
is closed at once. Planning can run code all the same: functions that PostgreSQL holds to be immutable,
and derived tables, which MariaDB materialises. That is what the limits are for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from otel_canonical.request.slow_queries import Plan, SlowQuery, explain_with

#: The time limit in the database, and for connecting to it, in seconds.
LIMIT_S, CONNECT_S = 1, 2

#: The longest plan, in characters.
LONGEST_PLAN = 20_000

_QUOTED = re.compile(r"'(?:[^']|'')*'")
_NUMBER = re.compile(r"(?<![\w.$\"`])-?\d+(?:\.\d+)?(?![\w\"`])")
#: A line of PostgreSQL's about a condition: `Filter: (n > 5)`. Others hold costs and rows.
_CONDITION = re.compile(r"^(\s*(?:-> +)?[A-Z][\w -]*: )(.*\(.*)$")


def offer() -> None:
    """Let slow queries be explained from now on, if the operator wants plans."""
    explain_with(fetch)


def fetch(query: SlowQuery) -> Plan:
    """Return the plan of a query, or why there is none."""
    from django.db import connections

    origin: Any = connections[query.alias]
    vendor = origin.vendor
    explain = _VENDORS.get(vendor)
    if explain is None:
        return Plan(why_not=f"{vendor} is not a database whose plans are read")
    if vendor == "sqlite" and origin.is_in_memory_db():
        return Plan(why_not="an in-memory database is another one for each connection")
    connection = origin.copy()
    _bound(connection)
    try:
        with connection.cursor() as cursor:
            rows = explain(connection, cursor, query)
    except Exception as error:  # noqa: BLE001  # a database may refuse for any reason; it becomes the text
        return Plan(why_not=f"{type(error).__name__} (a temporary table, a session's settings?)")
    finally:
        _close(connection)
    return Plan(_without_literals("\n".join(rows)[:LONGEST_PLAN]))


def _bound(connection: Any) -> None:
    """Give a connection limits of its own, and take it out of a pool."""
    settings = connection.settings_dict
    options = settings["OPTIONS"] = dict(settings.get("OPTIONS") or {})
    settings["CONN_MAX_AGE"], settings["CONN_HEALTH_CHECKS"] = 0, False
    options.pop("pool", None)
    if connection.vendor == "postgresql":
        options["connect_timeout"] = CONNECT_S
    elif connection.vendor == "mysql":
        options["connect_timeout"] = CONNECT_S
        options["read_timeout"] = options["write_timeout"] = CONNECT_S
    else:
        options["timeout"] = LIMIT_S


def _close(connection: Any) -> None:
    try:
        connection.close()
    except Exception:  # noqa: BLE001  # it has served its purpose; the server closes it, too
        pass


def _postgresql(connection: Any, cursor: Any, query: SlowQuery) -> list[str]:
    # Not as options of the connection: PgBouncer refuses those.
    cursor.execute("BEGIN READ ONLY")
    try:
        cursor.execute(f"SET LOCAL statement_timeout = '{LIMIT_S}s'")
        cursor.execute(f"SET LOCAL lock_timeout = '{LIMIT_S}s'")
        return _rows(connection, cursor, query)
    finally:
        cursor.execute("ROLLBACK")


def _mysql(connection: Any, cursor: Any, query: SlowQuery) -> list[str]:
    cursor.execute("START TRANSACTION READ ONLY")
    before = ""
    if connection.mysql_is_mariadb:
        before = f"SET STATEMENT max_statement_time={LIMIT_S} FOR "
    else:
        cursor.execute(f"SET SESSION max_execution_time = {LIMIT_S * 1000}")
    try:
        return _rows(connection, cursor, query, before)
    finally:
        cursor.execute("ROLLBACK")


def _sqlite(connection: Any, cursor: Any, query: SlowQuery) -> list[str]:
    cursor.execute("PRAGMA query_only = ON")
    return _rows(connection, cursor, query)


def _rows(connection: Any, cursor: Any, query: SlowQuery, before: str = "") -> list[str]:
    prefix = connection.ops.explain_query_prefix()
    cursor.execute(f"{before}{prefix} {query.sql}", query.params)
    rows = cursor.fetchall()
    if connection.vendor == "sqlite":
        # Numbers of the step and its parent come first, what it does last.
        return [str(row[-1]) for row in rows]
    names = [column[0] for column in cursor.description]
    if len(names) == 1:
        return [str(row[0]) for row in rows]
    return [
        ", ".join(
            f"{name}={value}" for name, value in zip(names, row, strict=True) if value is not None
        )
        for row in rows
    ]


_VENDORS: dict[str, Callable[[Any, Any, SlowQuery], list[str]]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "sqlite": _sqlite,
}


def _without_literals(plan: str) -> str:
    """Replace what stood in the query or its parameters; keep costs and numbers of rows."""
    lines = []
    for line in _QUOTED.sub("?", plan).splitlines():
        condition = _CONDITION.match(line)
        if condition is not None:
            line = condition[1] + _NUMBER.sub("?", condition[2])
        lines.append(line)
    return "\n".join(lines)
