"""The screen: headings and lines, readable on a terminal and raw everywhere else."""

from __future__ import annotations

import os
import shutil
import sys

from tour.lines import PAIR
from tour.visitor import Sent

BOLD, CYAN, DIM, RESET = "\x1b[1m", "\x1b[36m", "\x1b[2m", "\x1b[0m"
INDENT = "    "


class Screen:
    """Stdout, wrapped on a terminal and coloured unless NO_COLOR is set; raw everywhere else."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        dumb = os.environ.get("TERM") == "dumb"
        self.has_colour = self.is_terminal and not os.environ.get("NO_COLOR") and not dumb
        self.width = max(shutil.get_terminal_size().columns, 40)

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
        """Print one line of the server, broken between its pairs on a terminal."""
        if not self.is_terminal or PAIR.sub("", line):  # what is not logfmt is shown as it is
            print(line)
            return
        rows, used = [""], 0
        room = self.width - len(INDENT)
        for key, value in PAIR.findall(line):
            size = len(key) + 1 + len(value)
            if used and used + 1 + size > room:
                rows, used = [*rows, ""], 0
            if used:
                rows[-1], used = rows[-1] + " ", used + 1
            head = max(room - used - len(key) - 1, 1)
            rows[-1] += self.paint(CYAN, key) + "=" + value[:head]
            used += len(key) + 1 + len(value[:head])
            for start in range(head, len(value), room):  # a value longer than the terminal is wide
                rows.append(value[start : start + room])
                used = len(rows[-1])
        for row in rows:
            print(INDENT + row)
