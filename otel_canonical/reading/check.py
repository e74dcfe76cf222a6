"""`otel-canonical check`: whether files keep the promise of one whole line for each request."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict

from otel_canonical.reading import line_checks
from otel_canonical.reading.file_checks import FileChecks, Place
from otel_canonical.reading.recognise import fields_of
from otel_canonical.reading.screen import Screen, stdout
from otel_canonical.reading.sources import numbered_lines
from otel_canonical.reading.wording import count, counted, visible

SUMMARY = "check that every line is whole and every request has one ending; exit 1 if not"

FAULTY = 1
_SHOWN = 3
_SHOWN_LENGTH = 300


class _Faults:
    """The faults found so far: how many of each kind, and the first lines of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: defaultdict[str, list[tuple[Place, str, str]]] = defaultdict(list)

    def add(self, kind: str, what: str, place: Place, text: str) -> None:
        """Note one fault."""
        self.counts[kind] += 1
        if len(self.examples[kind]) < _SHOWN:
            self.examples[kind].append((place, what, text))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the files."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="in the order in which they were written; - is stdin",
    )


def run(options: argparse.Namespace) -> int:
    """Say what was found; return 1 if a promise was broken."""
    faults, checks = _Faults(), FileChecks()
    foreign = 0
    for file in options.files:
        for number, text, has_end in numbered_lines(file):
            if not _take(Place(file, number), text, has_end, checks, faults):
                foreign += bool(text)
    for kind, what, place in checks.finish():
        faults.add(kind, what, place, "")
    _say(stdout(), checks, faults, foreign)
    return FAULTY if faults.counts else 0


def _take(place: Place, text: str, has_end: bool, checks: FileChecks, faults: _Faults) -> bool:
    """Check one line; return False for a foreign one."""
    fields = fields_of(text)
    how = line_checks.torn(text)
    if how:
        faults.add(line_checks.TORN, how, place, text)
        return True
    if fields is None:
        return False
    if not has_end:
        faults.add(line_checks.TORN, "the last line has no newline", place, text)
    for kind, what in line_checks.faults(fields):
        faults.add(kind, what, place, text)
    for kind, what in checks.add(fields, place):
        faults.add(kind, what, place, text)
    return True


def _say(screen: Screen, checks: FileChecks, faults: _Faults, foreign: int) -> None:
    kinds = ", ".join(f"{count(many)} {kind}" for kind, many in checks.kinds.most_common())
    screen.row([(visible(f"{kinds or 'no canonical line'}; {count(foreign)} foreign"), "")])
    if checks.resent:
        screen.row([(f"note: {counted(checks.resent, 'id')} sent again by clients", "dim")])
    if missing := checks.missing():
        screen.row(
            [
                (
                    f"note: {counted(missing, 'request')} between others of a worker without a line: ",
                    "dim",
                ),
                ("excluded URLs, files that are not here, or lost lines", "dim"),
            ]
        )
    for kind, many in faults.counts.most_common():
        screen.row([(f"{count(many)}x ", "error"), (kind, "bold")])
        for place, what, text in faults.examples[kind]:
            shown = text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…"
            screen.row([(f"   {visible(str(place))}: {visible(what)}", "place")])
            if shown:
                screen.row([(f"      {visible(shown)}", "dim")])
    if faults.counts:
        total = sum(faults.counts.values())
        screen.row([(counted(total, "fault"), "error")])
    else:
        screen.row(
            [
                (
                    f"every line is whole, and each of {counted(checks.requests, 'request')} ended once",
                    "good",
                )
            ]
        )
