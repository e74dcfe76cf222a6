"""One column for each key of the line, with the type that DuckDB gives it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from otel_canonical.event.fields import FIELDS, PATTERNS

#: The types of `fields.py` as DuckDB names them.
SQL_TYPES = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}

#: Keys that the reports ask for, whether or not the version that wrote the lines has them.
_ASKED_FOR = {
    "VARCHAR": "db_n1 db_n1_loc db_slowest db_slowest_loc g_open",
    "BIGINT": "db_rows db_connects db_n1_count gc_runs imports mem_growth log_warnings log_errors "
    "ws_messages_in ws_messages_out ws_close_code",
    "DOUBLE": "db_fetch_time db_connect_time db_txn_time db_n1_time db_slowest_time resp_cpu_wait "
    "resp_blocked mw_time view_time tpl_self_time body_time resp_other_time gc_time",
}

#: Every known key with its type, in the order of the line; `ts` is a moment.
COLUMNS: dict[str, str] = {
    **{field.key: SQL_TYPES[field.type] for field in FIELDS},
    **{
        key: sql_type
        for sql_type, keys in _ASKED_FOR.items()
        for key in keys.split()
        if key not in {field.key for field in FIELDS}
    },
    "ts": "TIMESTAMP",
}

_FAMILIES = [
    (re.compile(re.sub("<[a-z]+>", "[A-Za-z0-9_.]+", field.key)), SQL_TYPES[field.type])
    for field in PATTERNS
    if field.type in SQL_TYPES
]


def family_type(key: str) -> str | None:
    """Return the type of a key that is made as it is needed (`redis_time`); None if it can be any."""
    return next((sql_type for family, sql_type in _FAMILIES if family.fullmatch(key)), None)


def identifier(name: str) -> str:
    """Return a name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL quotes it."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """Return a list of texts as SQL writes it."""
    return "[" + ", ".join(map(literal, texts)) + "]"
