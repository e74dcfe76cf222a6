"""`otel-canonical top`: `ps` once a second on a terminal, with rates and a history."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator

from otel_canonical.reading.live import pages, tables
from otel_canonical.reading.live.pools import read_pool
from otel_canonical.reading.live.shapes import LivePool
from otel_canonical.reading.live.tables import Row
from otel_canonical.reading.problems import NO_POOL, CommandFailed
from otel_canonical.reading.screen import STYLES, cells, fold

SUMMARY = "show a pool's open requests once a second on a terminal; q quits"

#: Of the kinds of lines: these have a rate in the head.
RATES = ("request", "timeout", "lost", "slow", "partial_failure", "dropped")
HISTORY = 240


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    pages.add_choice(parser)
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (1)"
    )
    parser.add_argument("--once", action="store_true", help="show one screen and leave")


class History:
    """What `top` has seen of a pool."""

    def __init__(self) -> None:
        self.busy: deque[int | None] = deque(maxlen=HISTORY)
        self.backlog: deque[int | None] = deque(maxlen=HISTORY)
        self._lines: dict[str, int] = {}
        self._at = 0.0
        self.rates: dict[str, float] = {}

    def add(self, pool: LivePool) -> None:
        """Add a look at the pool; the first brings what the arbiter remembers of the last minute."""
        if not self.busy:
            for busy, backlog in pool.facts.get("history", ()):
                self.busy.append(busy)
                self.backlog.append(backlog)
        self.busy.append(pool.busy)
        self.backlog.append(pool.backlog)
        lines = pool.facts.get("lines", {})
        sampled = pool.facts.get("sampled_ns", 0) / 1e9
        if self._at and sampled > self._at:
            self.rates = {
                name: (lines.get(name, 0) - self._lines.get(name, 0)) / (sampled - self._at)
                for name in RATES
            }
        if sampled > self._at:
            self._lines, self._at = lines, sampled


def run(options: argparse.Namespace) -> int:
    """Show the pool until `q`, or until it is gone."""
    if not (options.once or (sys.stdin.isatty() and sys.stdout.isatty())):
        raise CommandFailed("top needs a terminal; for scripts there is `otel-canonical ps --json`")
    history = History()
    if options.once:
        pool = read_pool(pages.one(options))
        history.add(pool)
        sys.stdout.write("\n".join(_plain(rows(pool, history, *_size()))) + "\n")
        return 0
    with _keys():
        while True:
            try:
                pool = read_pool(pages.one(options))
            except CommandFailed as error:
                if error.code != NO_POOL or not history.busy:
                    raise
                raise CommandFailed("the pool is gone", NO_POOL) from error
            history.add(pool)
            _show(rows(pool, history, *_size()))
            if _quits_within(options.interval):
                return 0


def rows(pool: LivePool, history: History, width: int, height: int) -> list[Row]:
    """Return the screen's rows, as many as fit."""
    shown: list[Row] = []
    for row in tables.head(pool):
        shown += fold(row, width)
    rates = "  ".join(
        f"{name} {rate:.1f}/s" for name, rate in history.rates.items() if rate or name == "request"
    )
    shown += fold([(f"lines: {rates}" if rates else "lines: -", "")], width)
    room = max(width - 18, 10)
    for name, values in (("busy", history.busy), ("backlog", history.backlog)):
        last = values[-1] if values and values[-1] is not None else "?"
        bars = tables.sparkline(list(values), room)
        shown.append([(f"{name:<8}", ""), (f"{bars:<{room}}", "good"), (f" {last}", "bold")])
    shown.append([])
    shown += tables.request_rows(pool.requests, width)
    if not pool.requests:
        shown.append([("no request is open", "dim")])
    free = height - len(shown) - 2
    workers = [*tables.worker_rows(pool.workers)]
    if free > 2:
        shown.append([])
        shown += workers[:free] if len(workers) > free else workers
    elif len(shown) > height - 1:
        more = len(shown) - (height - 2)
        shown = [*shown[: height - 2], [(f"… and {more} more", "dim")]]
    return shown[: height - 1]


def _size() -> tuple[int, int]:
    # Not by `shutil`, which believes COLUMNS: a window that is resized changes no variable.
    try:
        found = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return tables.WIDE, 50
    return max(found.columns, 40), max(found.lines, 10)


def _plain(shown: list[Row]) -> Iterator[str]:
    for row in shown:
        yield "".join(text for text, _ in row).rstrip()


#: The styles of `screen` as escape sequences, for a screen that is drawn anew each second.
_SEQUENCES = {
    "": "0",
    "bold": "1",
    "dim": "2",
    "error": "1;31",
    "warning": "33",
    "good": "32",
    "redirect": "36",
    "place": "36",
}
assert _SEQUENCES.keys() == STYLES.keys()


def _show(shown: list[Row]) -> None:
    width, _ = _size()
    drawn = ["\x1b[H"]
    for row in shown:
        left = width
        for text, style in row:
            while text and cells(text) > left:
                text = text[:-1]
            left -= cells(text)
            drawn.append(f"\x1b[{_SEQUENCES[style]}m{text}\x1b[0m" if style else text)
        drawn.append("\x1b[K\r\n")
    drawn.append("\x1b[J\x1b[2m q quits\x1b[0m\x1b[K")
    sys.stdout.write("".join(drawn))
    sys.stdout.flush()


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Take keys as they are pressed, on a screen of our own; put the terminal back afterwards."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[2J")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _quits_within(seconds: float) -> bool:
    """Return whether `q` is pressed within that time."""
    deadline = time.monotonic() + seconds
    fd = sys.stdin.fileno()
    while (left := deadline - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            pressed = os.read(fd, 64)
            if not pressed or b"q" in pressed or b"Q" in pressed:
                return True
    return False
