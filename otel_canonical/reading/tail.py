"""`otel-canonical tail`: lines as a person reads them, also while they come."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterable, Iterator

from otel_canonical.reading import filters
from otel_canonical.reading.follow import followed
from otel_canonical.reading.line_view import view
from otel_canonical.reading.problems import CommandFailed
from otel_canonical.reading.recognise import fields_of
from otel_canonical.reading.screen import Screen, stdout
from otel_canonical.reading.sources import STDIN, raw_lines
from otel_canonical.reading.wording import visible

SUMMARY = "show lines as a person reads them, also while they are written"

#: How much of a file is shown before it is followed, as `tail` does.
LINES_BEFORE_FOLLOWING = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the files, the filters and the looks."""
    parser.add_argument("files", nargs="*", default=[STDIN], metavar="FILE", help="- is stdin")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is written, across rotations"
    )
    parser.add_argument(
        "-n", "--lines", type=int, metavar="N", help="begin N lines before the end; with -f: 10"
    )
    filters.add_arguments(parser)
    parser.add_argument(
        "--no-foreign", action="store_true", help="leave out lines that are not canonical ones"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show every key as well")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set",
    )


def run(options: argparse.Namespace) -> int:
    """Show the files' lines; return 0."""
    if options.lines is not None and options.lines < 0:
        raise CommandFailed("-n takes a number of lines, 0 or more")
    screen = stdout(options.color)
    wanted = filters.chosen(options)
    day = ""
    is_live = options.follow or STDIN in options.files
    for line in _lines(options, screen):
        fields = fields_of(line.decode("utf-8", "replace").rstrip("\r\n"))
        if fields is None:
            if not options.no_foreign:
                screen.foreign(line)
        elif wanted(fields):
            today = str(fields["ts"]).partition("T")[0]
            if day and today != day:
                screen.row([(visible(today), "dim")])
            day = today
            screen.show(view(fields, is_verbose=options.verbose))
        if is_live and not options.follow:
            screen.flush()
    return 0


def _lines(options: argparse.Namespace, screen: Screen) -> Iterable[bytes]:
    if options.follow and STDIN not in options.files:
        last = LINES_BEFORE_FOLLOWING if options.lines is None else options.lines
        return followed(options.files, last, screen.flush)
    return _read(options.files, options.lines)


def _read(paths: list[str], last: int | None) -> Iterator[bytes]:
    for path in paths:
        if last is None:
            yield from raw_lines(path)
        else:
            yield from collections.deque(raw_lines(path), last)
