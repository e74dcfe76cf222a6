"""The screen: headings and lines, readable on a terminal and raw everywhere else."""

from __future__ import annotations

import os
import sys

from otel_canonical.reading.line_view import view
from otel_canonical.reading.recognise import fields_of
from otel_canonical.reading.screen import stdout
from tour.visitor import Sent

BOLD, DIM, RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Screen:
    """Stdout: lines as `tail` shows them on a terminal, as they are written everywhere else."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        dumb = os.environ.get("TERM") == "dumb"
        self.has_colour = self.is_terminal and not os.environ.get("NO_COLOR") and not dumb
        self._tail = stdout()

    def paint(self, style: str, text: str) -> str:
        return f"{style}{text}{RESET}" if self.has_colour else text

    def say(self, text: str = "") -> None:
        """Print a line that is not the server's: a comment when someone filters the output."""
        print(text if self.is_terminal else f"# {text}".rstrip(), flush=True)

    def show(self, number: int, one: Sent) -> None:
        """Print what was sent and the lines that came of it."""
        self.say()
        heading = self.paint(BOLD, f"{number:2}  {one.what}  -> {one.status}")
        self.say(f"{heading}  {self.paint(DIM, one.note)}")
        for line in one.lines:
            self.show_line(line)

    def show_line(self, line: str) -> None:
        """Print one line of the server; on a terminal as `otel-canonical tail` shows it."""
        fields = fields_of(line) if self.is_terminal else None
        if fields is None:
            print(line)
            return
        sys.stdout.flush()
        self._tail.show(view(fields))
