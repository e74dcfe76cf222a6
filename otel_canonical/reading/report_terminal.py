"""The report as text: tables that fit the terminal, small pictures made of block characters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from otel_canonical.reading.report_contents import NOTHING, Report
from otel_canonical.reading.screen import Row, Screen, cells, fold
from otel_canonical.reading.sections import Column, Section, shown

#: Of what isn't a terminal, which nothing folds.
_PIPE_WIDTH = 160
_NARROWEST_TEXT = 12
_BLOCKS = "▁▂▃▄▅▆▇█"
_BAR_WIDTH = 12
_OVER_TIME = ("stack", "lines")
_HIGHLIGHTED = ("failed", "timeouts", "lost")


def show(report: Report, screen: Screen, most_rows: int) -> None:
    """Write a report, at most so many rows of each table."""
    width = screen.width or _PIPE_WIDTH
    totals = "   ".join(f"{name} {value}" for name, value in report.totals)
    _paragraph(screen, [(report.headline, "bold"), ("   ", ""), (totals, "")], width)
    for title, sentences in report.sentences():
        screen.row([])
        screen.row([(title, "bold")])
        for number, sentence in enumerate(sentences, 1):
            for index, row in enumerate(fold([(sentence, "")], width - 5)):
                screen.row([(f"  {number}. " if index == 0 else "     ", "dim"), *row])
        if not sentences:
            screen.row([(f"  {NOTHING}", "")])
    for section in report.sections:
        screen.row([])
        _section(screen, section, most_rows, width)


def table(columns: Sequence[Column], rows: Sequence[Sequence[object]], width: int) -> Iterator[Row]:
    """Yield a table as rows of at most a width: numbers to the right, texts shortened to fit."""
    texts = [[column.title for column in columns]]
    texts += [
        [shown(value, column) for value, column in zip(row, columns, strict=True)] for row in rows
    ]
    widths = _widths(columns, texts, width)
    for index, row in enumerate(texts):
        pieces: Row = []
        for text, column, size in zip(row, columns, widths, strict=True):
            fitted = _fit(text, size)
            gap = " " * (size - cells(fitted))
            style = "dim" if index == 0 else ""
            if index and column.title in _HIGHLIGHTED and text not in ("", "0"):
                style = "error"
            pieces.append(
                (f"{fitted}{gap}  " if column.format == "text" else f"{gap}{fitted}  ", style)
            )
        yield pieces


def sparkline(values: Sequence[float | None]) -> str:
    """Return numbers as blocks of their height; what is absent is a gap."""
    most = max([value for value in values if value is not None], default=0.0)
    return "".join(
        [
            " "
            if value is None
            else _BLOCKS[round(value / most * (len(_BLOCKS) - 1)) if most else 0]
            for value in values
        ]
    )


def _section(screen: Screen, section: Section, most_rows: int, width: int) -> None:
    if not section.rows:
        screen.row([(section.title, "bold"), (f": {section.empty}", "")])
        return
    screen.row([(section.title, "bold")])
    picture = section.picture
    rows, columns = section.rows, section.columns
    if picture.kind in _OVER_TIME:
        for name in picture.columns:
            values = section.values(name)
            if any(values):
                screen.row([(f"  {name:12} ", "dim"), (sparkline(values), "good")])
    else:
        rows = rows[: None if picture.kind == "heat" else most_rows]
    if picture.kind == "bars":
        drawn = [float(value or 0) for value in section.values(picture.columns[0])]
        most = max(drawn) or 1.0
        bars = ["█" * round(value / most * _BAR_WIDTH) for value in drawn]
        columns = (*columns, Column("", "text"))
        rows = [(*row, bar) for row, bar in zip(rows, bars, strict=False)]
    keep = [
        index
        for index, column in enumerate(columns)
        if column.title == ""
        or any(shown(row[index], column) not in ("", "0", "-") for row in rows)
    ]
    for row in table(
        [columns[index] for index in keep],
        [[row[index] for index in keep] for row in rows],
        width - 2,
    ):
        screen.row([("  ", ""), *row])
    if len(rows) < len(section.rows):
        screen.row([(f"  … {len(section.rows) - len(rows)} more", "dim")])


def _widths(columns: Sequence[Column], texts: list[list[str]], width: int) -> list[int]:
    widths = [max(cells(row[index]) for row in texts) for index in range(len(columns))]
    flexible = [
        index for index, column in enumerate(columns) if column.format == "text" and column.title
    ]
    while sum(widths) + 2 * len(widths) > width and flexible:
        widest = max(flexible, key=lambda index: widths[index])
        if widths[widest] <= _NARROWEST_TEXT:
            break
        excess = sum(widths) + 2 * len(widths) - width
        others = [widths[index] for index in flexible if index != widest]
        least = max([_NARROWEST_TEXT, *[size for size in others if size < widths[widest]]])
        widths[widest] = max(widths[widest] - excess, min(least, widths[widest] - 1))
    return widths


def _fit(text: str, width: int) -> str:
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _paragraph(screen: Screen, pieces: Row, width: int) -> None:
    for row in fold(pieces, width):
        screen.row(row)
