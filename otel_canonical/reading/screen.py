"""Where commands write: folded and coloured on a terminal, plain text everywhere else.

Colours are rich's, of the extra `[cli]`; without it the text is the same. No character that moves a
cursor gets to a terminal: what is shown of lines is escaped by `wording.visible`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from otel_canonical.reading.line_view import LineView, Piece
from otel_canonical.reading.wording import visible

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {
    "": "",
    "bold": "bold",
    "dim": "dim",
    "error": "bold red",
    "warning": "yellow",
    "good": "green",
    "redirect": "cyan",
    "place": "cyan",
}

NARROWEST = 40
#: Where the method begins, under which details stand: behind the time and the status.
_TIME_WIDTH = 12
_DETAIL_INDENT = 14
_HEAD_INDENT = 19

Row = list[Piece]


class Screen:
    """Stdout for people.

    Args:
        out: a text stream.
        colour: `auto` for a terminal's, else `always` or `never`.
    """

    def __init__(self, out: TextIO, colour: str = "auto") -> None:
        self._out = out
        self.is_terminal = out.isatty() or colour == "always"
        self._console = self._rich(colour) if self.is_terminal and colour != "never" else None

    @property
    def width(self) -> int | None:
        """The columns to fold at, asked anew as windows are resized; None where nothing is folded."""
        if not self.is_terminal:
            return None
        return max(shutil.get_terminal_size().columns, NARROWEST)

    def _rich(self, colour: str) -> Console | None:
        if importlib.util.find_spec("rich") is None:
            return None
        from rich.console import Console

        is_forced = True if colour == "always" else None
        return Console(file=self._out, force_terminal=is_forced, soft_wrap=True, highlight=False)

    def show(self, line: LineView) -> None:
        """Write one line's view."""
        for row in rows(line, self.width):
            self.row(row)

    def row(self, row: Row) -> None:
        """Write one row of pieces that are safe to show."""
        if self._console is None:
            self._out.write("".join([text for text, _ in row]).rstrip() + "\n")
            return
        from rich.text import Text

        text = Text.assemble(*[(text, STYLES[style]) for text, style in row])
        text.rstrip()
        self._console.print(text, no_wrap=True, crop=False, overflow="ignore")

    def foreign(self, line: bytes) -> None:
        """Write a line that is none of ours: untouched, but escaped on a terminal."""
        if self.is_terminal:
            text = line.decode("utf-8", "replace").rstrip("\r\n").expandtabs()
            self._out.write(visible(text) + "\n")
        else:
            self._out.flush()
            self._out.buffer.write(line if line.endswith(b"\n") else line + b"\n")

    def flush(self) -> None:
        """Hand over what has been written."""
        self._out.flush()


def stdout(colour: str = "auto") -> Screen:
    """Return the screen of this process; a character that its encoding lacks becomes `?`."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    if os.environ.get("NO_COLOR") and colour == "auto":
        colour = "never"
    return Screen(sys.stdout, colour)


def rows(line: LineView, width: int | None) -> Iterator[Row]:
    """Yield the rows of a line's view, folded to a width."""
    mark, asked = line.head
    mark_width = max(len(mark[0]), 3)
    left: Row = [
        (f"{line.time:{_TIME_WIDTH}}  ", "dim"),
        (f"{mark[0]:{mark_width}}", mark[1]),
        ("  ", ""),
    ]
    used = _TIME_WIDTH + mark_width + 4
    end = line.end
    if width is None:
        yield [*left, asked, (f"  {end[0]}" if end[0] else "", end[1])]
    else:
        room = width - used - (cells(end[0]) + 2 if end[0] else 0)
        first, rest = _cut_at_space(asked[0], max(room, 1))
        gap = " " * max(width - used - cells(first) - cells(end[0]), 0)
        yield [*left, (first, asked[1]), (gap, ""), end]
        while rest:
            first, rest = _cut_at_space(rest, width - _HEAD_INDENT)
            yield [(" " * _HEAD_INDENT, ""), (first, asked[1])]
    for paragraph in line.details:
        for row in fold(paragraph, None if width is None else width - _DETAIL_INDENT):
            yield [(" " * _DETAIL_INDENT, ""), *row]


def fold(pieces: Sequence[Piece], width: int | None) -> Iterator[Row]:
    """Yield pieces as rows of at most a width, broken at spaces where there are any."""
    if width is None:
        yield list(pieces)
        return
    row: Row = []
    used = 0
    for text, style in pieces:
        for word in _words(text):
            size = cells(word.rstrip(" "))
            if used and used + size > width:
                yield row
                row, used = [], 0
                word = word.lstrip(" ")
            while cells(word.rstrip(" ")) > width:
                first, word = _cut(word, width)
                yield [(first, style)]
            row.append((word, style))
            used += cells(word)
    if row:
        yield row


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cell, text))


def _cell(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _cut(text: str, width: int) -> tuple[str, str]:
    """Return as much of a text as fits into a width, and the rest."""
    used = 0
    for index, char in enumerate(text):
        used += _cell(char)
        if used > width and index:
            return text[:index], text[index:]
    return text, ""


def _cut_at_space(text: str, width: int) -> tuple[str, str]:
    """Return as many words of a text as fit into a width, and the rest; of one word, a part."""
    first, rest = _cut(text, width)
    at = first.rfind(" ") if rest and not rest.startswith(" ") else -1
    # A method that stands alone says nothing.
    if at * 2 < width:
        return first, rest.lstrip(" ")
    return first[:at], first[at + 1 :] + rest


def _words(text: str) -> Iterator[str]:
    """Yield words, each with the spaces behind it."""
    start = 0
    for index in range(1, len(text)):
        if text[index - 1] == " " and text[index] != " ":
            yield text[start:index]
            start = index
    if text:
        yield text[start:]
