"""`otel-canonical query`: SQL on files of lines, the view `events` with one column a key."""

from __future__ import annotations

import argparse
import csv
import datetime
import decimal
import json
import sys
from typing import TYPE_CHECKING

from otel_canonical.reading.problems import CommandFailed, library

if TYPE_CHECKING:
    import duckdb

SUMMARY = "ask files of lines in SQL: the view `events` has one column for each key"

_ROWS_AT_ONCE = 10_000
#: A table is aligned, so it is kept whole; this many rows are for a program, not for a person.
_MOST_TABLE_ROWS = 1000
_WIDTH = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the question, the files and the form of the answer."""
    parser.add_argument("sql", metavar="SQL", help="a query on the view `events`")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="logfmt or JSON, also .gz and .zst; - is stdin"
    )
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")


def run(options: argparse.Namespace) -> int:
    """Write the answer; return 0."""
    from otel_canonical.reading.events import load

    duck = library("duckdb", "report")
    with load(options.files) as events:
        try:
            answer = events.connection.execute(options.sql)
            _write(answer, options.format)
        except duck.Error as error:
            raise CommandFailed(str(error).strip()) from error
    return 0


def _write(answer: duckdb.DuckDBPyConnection, form: str) -> None:
    names = [column[0] for column in answer.description]
    if form == "table":
        _write_table(names, answer)
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        writer.writerow(names)
    while rows := answer.fetchmany(_ROWS_AT_ONCE):
        if form == "csv":
            writer.writerows([[_text(value) for value in row] for row in rows])
        else:
            for row in rows:
                found = dict(zip(names, row, strict=True))
                sys.stdout.write(json.dumps(found, default=_text) + "\n")


def _write_table(names: list[str], answer: duckdb.DuckDBPyConnection) -> None:
    from otel_canonical.reading.report_terminal import table
    from otel_canonical.reading.screen import stdout
    from otel_canonical.reading.sections import Column

    rows = answer.fetchmany(_MOST_TABLE_ROWS + 1)
    columns = [
        Column(name, "number" if _is_numeric([row[index] for row in rows]) else "text")
        for index, name in enumerate(names)
    ]
    screen = stdout()
    texts = [[None if value is None else _text(value) for value in row] for row in rows]
    for row in table(columns, texts[:_MOST_TABLE_ROWS], screen.width or _WIDTH):
        screen.row(row)
    if len(rows) > _MOST_TABLE_ROWS:
        screen.row([(f"… more than {_MOST_TABLE_ROWS} rows; --format csv writes all", "dim")])


def _is_numeric(values: list[object]) -> bool:
    return all(
        value is None
        or (isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool))
        for value in values
    )


def _text(value: object) -> str:
    """Return a value as text that other programs read: ISO moments, `true` and `false`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="milliseconds") + ("Z" if value.tzinfo is None else "")
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, default=_text)
    return str(value)
