"""The loader: lines of many files as one table of DuckDB.

A thread reads and turns the next chunk of lines while DuckDB takes in the one before. Chunks go through
small files in a temporary directory, where DuckDB also puts what its memory limit has no room for.
"""

from __future__ import annotations

import contextlib
import queue
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_canonical.reading import json_batches
from otel_canonical.reading.columns import COLUMNS
from otel_canonical.reading.lines_table import KeyTwice, LinesTable
from otel_canonical.reading.problems import library
from otel_canonical.reading.sources import chunks

if TYPE_CHECKING:
    import duckdb

_MEMORY_LIMIT = "1GB"

_Row = tuple[Any, ...]


class Events(NamedTuple):
    """The loaded lines, as the view `events` of a database."""

    connection: duckdb.DuckDBPyConnection
    #: How many lines there are.
    lines: int
    #: How many lines of the files were none of ours.
    foreign: int
    #: Keys without a place in `columns.COLUMNS`, with the types of their columns.
    extra: Mapping[str, str]

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[_Row]:
        """Return the answer to a query."""
        return self.connection.execute(sql, list(parameters)).fetchall()

    def row(self, sql: str, parameters: Sequence[object] = ()) -> _Row:
        """Return the only row of the answer to a query."""
        (only,) = self.rows(sql, parameters)
        return only


class _Batch(NamedTuple):
    rows: Path
    lines: list[bytes]
    foreign: int


@contextlib.contextmanager
def load(paths: Sequence[str], wanted: Iterable[str] = COLUMNS) -> Iterator[Events]:
    """Load files; the database is gone afterwards.

    Args:
        paths: files, `-` for standard input.
        wanted: the known keys that get a column; the fewer, the faster.

    Raises:
        CommandFailed: DuckDB is missing, or a file cannot be read.
    """
    duck = library("duckdb", "report")
    with tempfile.TemporaryDirectory(prefix="otel-canonical-") as directory:
        connection = duck.connect(
            config={"memory_limit": _MEMORY_LIMIT, "temp_directory": str(Path(directory, "spill"))}
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            table = LinesTable(connection, wanted)
            seen = 0
            with _batches(paths, Path(directory)) as batches:
                for batch in batches:
                    _insert(table, batch, duck.Error)
                    batch.rows.unlink()
                    seen += len(batch.lines) + batch.foreign
            types = table.finish()
            ((lines,),) = connection.execute("SELECT count(*) FROM lines").fetchall()
            yield Events(connection, lines, seen - lines, types)
        finally:
            connection.close()


def _insert(table: LinesTable, batch: _Batch, refused: type[Exception]) -> None:
    # The fast way is exact for what we write; a torn line is enough to come to the next.
    if _is_taken(table, batch.rows, refused):
        return
    batch.rows.write_bytes(json_batches.careful(batch.lines))
    if not _is_taken(table, batch.rows, refused):
        batch.rows.write_bytes(json_batches.parsed(batch.lines))
        table.insert(batch.rows)


def _is_taken(table: LinesTable, rows: Path, refused: type[Exception]) -> bool:
    try:
        table.insert(rows)
    except (KeyTwice, refused):
        return False
    return True


@contextlib.contextmanager
def _batches(paths: Sequence[str], directory: Path) -> Iterator[Iterator[_Batch]]:
    """Give the batches of all files; a thread is at most two ahead of the caller."""
    ready: queue.Queue[_Batch | BaseException | None] = queue.Queue(1)
    is_over = threading.Event()

    def put(item: _Batch | BaseException | None) -> bool:
        while not is_over.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def read() -> None:
        try:
            for number, chunk in enumerate(chunk for path in paths for chunk in chunks(path)):
                rows, lines, foreign = json_batches.batch(chunk)
                file = directory / f"{number}.json"
                file.write_bytes(rows)
                if not put(_Batch(file, lines, foreign)):
                    return
        except BaseException as error:  # noqa: BLE001 - raised again by the reader of the queue
            put(error)
        else:
            put(None)

    def taken() -> Iterator[_Batch]:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=read, name="otel-canonical-reader", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        is_over.set()
        thread.join()
