"""The table of DuckDB that rows of JSON go into: a column for each key, also for new ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from otel_canonical.reading.columns import COLUMNS, family_type, identifier, literal, literals

if TYPE_CHECKING:
    import duckdb

#: The column for keys that have none of their own, as MAP(VARCHAR, VARCHAR).
EXTRA = "extra"
#: An app may build its keys from anything: beyond these, they are found in `extra` only.
MOST_EXTRA_COLUMNS = 400

#: A row without these is none of our lines.
_IDENTITY = ("ts", "event_type")
_LONGEST_ROW_BYTES = 1 << 27


class KeyTwice(Exception):
    """A row has a key twice; DuckDB would take the first, logfmt's readers take the last."""


class LinesTable:
    """The table `lines`, and the view `events` of it with the types that values turned out to have.

    Args:
        connection: to an empty database.
        wanted: the known keys that get a column; the fewer, the faster.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, wanted: Iterable[str]) -> None:
        self._connection = connection
        self._columns = {key: COLUMNS[key] for key in (*_IDENTITY, *wanted)}
        self._known = {*COLUMNS, ""}
        # SQL doesn't tell `A` from `a`.
        self._names = {key.lower() for key in (*COLUMNS, EXTRA)}
        self._overflow: set[str] = set()
        #: Keys outside of `COLUMNS` that have a column.
        self.extra: list[str] = []
        columns = ", ".join(f"{identifier(key)} {kind}" for key, kind in self._columns.items())
        connection.execute(f"CREATE TABLE lines ({EXTRA} MAP(VARCHAR, VARCHAR), {columns})")

    def insert(self, path: Path) -> None:
        """Add a file of rows.

        Raises:
            KeyTwice: a row has a key twice.
            duckdb.Error: a row is no JSON.
        """
        rows = f"""read_csv(
            {literal(str(path))}, columns = {{'row': 'VARCHAR'}}, delim = '\\0', quote = '',
            escape = '', header = false, auto_detect = false, max_line_size = {_LONGEST_ROW_BYTES}
        )"""
        self._add_columns(rows)
        structure = json.dumps(self._columns | dict.fromkeys(self.extra, "VARCHAR"))
        extra = "NULL"
        if self._overflow:
            extra = f"""map_from_entries(list_filter(
                map_entries(from_json(row, '"MAP(VARCHAR, VARCHAR)"')),
                lambda entry: list_contains({literals(self._overflow)}, entry.key)
            ))"""
        self._connection.execute(
            f"INSERT INTO lines SELECT {extra}, unnest(from_json(row, {literal(structure)})) FROM {rows}"
        )

    def finish(self) -> dict[str, str]:
        """Drop what is no line of ours and make the view; return the types of the other keys."""
        self._connection.execute("DELETE FROM lines WHERE event_type IS NULL OR ts IS NULL")
        types = self._types()
        columns = [_finite(key, kind) for key, kind in self._columns.items()]
        extra = [
            f"try_cast({identifier(key)} AS {kind}) AS {identifier(key)}"
            for key, kind in types.items()
        ]
        self._connection.execute(
            f"CREATE VIEW events AS SELECT {', '.join([*columns, *extra, EXTRA])} FROM lines"
        )
        return types

    def _add_columns(self, rows: str) -> None:
        # Lines of one kind of request have the same keys, so these are few.
        shapes = self._connection.execute(f"SELECT DISTINCT json_keys(row) FROM {rows}").fetchall()
        for (keys,) in shapes:
            if len(set(keys)) < len(keys):
                raise KeyTwice
        for key in {key: None for (keys,) in shapes for key in keys if key not in self._known}:
            if key.lower() in self._names or len(self.extra) >= MOST_EXTRA_COLUMNS:
                self._overflow.add(key)
            else:
                self.extra.append(key)
                self._names.add(key.lower())
                self._connection.execute(f"ALTER TABLE lines ADD COLUMN {identifier(key)} VARCHAR")
            self._known.add(key)

    def _types(self) -> dict[str, str]:
        if not self.extra:
            return {}
        looks = [
            f"""CASE
                WHEN count({name}) = count(*) FILTER (WHERE {name} IN ('true', 'false')) THEN 'BOOLEAN'
                WHEN count({name}) = count(*) FILTER (WHERE {_is_plain_integer(name)}) THEN 'BIGINT'
                WHEN count({name}) = count(*) FILTER (WHERE {_is_plain_number(name)}) THEN 'DOUBLE'
                ELSE 'VARCHAR' END"""
            for name in map(identifier, self.extra)
        ]
        found = self._connection.execute(f"SELECT {', '.join(looks)} FROM lines").fetchall()[0]
        return {
            key: family_type(key) or inferred
            for key, inferred in sorted(zip(self.extra, found, strict=True))
        }


def _finite(key: str, kind: str) -> str:
    """Return a column as the view has it: an infinite or undefined number would be every sum."""
    name = identifier(key)
    return f"CASE WHEN isfinite({name}) THEN {name} END AS {name}" if kind == "DOUBLE" else name


def _is_plain_integer(name: str) -> str:
    # Not what starts with a 0, which may be a code, nor what has no room in 64 bits.
    return f"regexp_full_match({name}, '-?(0|[1-9][0-9]{{0,17}})')"


def _is_plain_number(name: str) -> str:
    return f"regexp_full_match({name}, '-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?')"
