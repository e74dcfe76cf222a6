"""The parts of a report: tables of plain values, each with the picture that goes with it. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from otel_canonical.reading import wording

Row = tuple[Any, ...]


class Column(NamedTuple):
    """One column of a table: its title and how its values are shown, a key of `FORMATS`."""

    title: str
    format: str = "text"


@dataclass(frozen=True, slots=True)
class Picture:
    """What a page draws of a section.

    `kind` is `stack` (shares of a whole over time), `lines` (over time), `bars` (one for each row),
    `parts` (bars of parts that add up) or `heat`; `columns` are those drawn, by title.
    """

    kind: str
    columns: tuple[str, ...]
    #: What the values' axis measures.
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One question and its answer, worst first."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[Row]
    picture: Picture
    #: What is said where there are no rows.
    empty: str = "nothing"

    def values(self, title: str) -> list[Any]:
        """Return one column."""
        index = [column.title for column in self.columns].index(title)
        return [row[index] for row in self.rows]


def shown(value: object, column: Column) -> str:
    """Return a value as people read it; what is absent is empty."""
    if value is None:
        return ""
    return FORMATS[column.format](value)


def _moment(value: datetime.datetime) -> str:
    return f"{value:%d %b %H:%M:%S}" if value.second else f"{value:%d %b %H:%M}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "text": lambda value: wording.visible(str(value)),
    "number": lambda value: str(value),
    "count": wording.count,
    "seconds": lambda value: wording.duration(value) if value else "-",
    "share": wording.share,
    "bytes": wording.size,
    "moment": _moment,
}
