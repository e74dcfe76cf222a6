"""`otel-canonical report`: what is slow, what fails, and where, out of nothing but files of lines."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from otel_canonical.reading.problems import CommandFailed

if TYPE_CHECKING:
    from otel_canonical.reading.report_contents import Report

SUMMARY = "show what is slow and what fails, with its place in the code; --html writes a page"

_TOP = 10
_PAGE_TOP = 25
#: Into how many parts time is cut.
_TERMINAL_PARTS = 12
_PAGE_PARTS = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the files and what of them counts."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="logfmt or JSON, also .gz and .zst; - is stdin"
    )
    when = "14:30, 2026-11-26T14:30, or 2h for the last two hours; UTC"
    parser.add_argument("--since", metavar="TIME", help=when)
    parser.add_argument("--until", metavar="TIME", help="the same")
    parser.add_argument("--route", metavar="ROUTE", help="this route; * stands for anything")
    parser.add_argument(
        "--html", metavar="OUT", help="write one page there that needs no network, instead of text"
    )
    parser.add_argument(
        "--compare",
        metavar="FILE",
        help="say what is slower, fails newly or repeats newly since the lines of this file",
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help=f"rows of each table ({_TOP}, on a page {_PAGE_TOP})"
    )
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="as for tail"
    )


def run(options: argparse.Namespace) -> int:
    """Write the report; return 0."""
    if options.top is not None and options.top < 1:
        raise CommandFailed("--top takes a number of rows, 1 or more")
    # DuckDB and matplotlib are loaded by what these import.
    from otel_canonical.reading.compare import compared
    from otel_canonical.reading.events import load
    from otel_canonical.reading.report_contents import contents
    from otel_canonical.reading.report_scope import KEYS, Limits, Scope
    from otel_canonical.reading.route_profiles import profiles

    limits = Limits(options.since, options.until, options.route)
    with load(options.files, KEYS) as events:
        parts = _PAGE_PARTS if options.html else _TERMINAL_PARTS
        scope = Scope(events, limits)
        report = contents(scope, parts)
        after = profiles(scope) if options.compare else {}
    if options.compare:
        with load([options.compare], KEYS) as events:
            # The time limits are about the files that are reported.
            before = profiles(Scope(events, Limits(route=options.route)))
        report = replace(report, changed=compared(before, after))
    if options.html:
        _write_page(report, options)
    else:
        from otel_canonical.reading.report_terminal import show
        from otel_canonical.reading.screen import stdout

        show(report, stdout(options.color), options.top or _TOP)
    return 0


def _write_page(report: Report, options: argparse.Namespace) -> None:
    from otel_canonical.reading.report_page import page

    text = page(report, options.top or _PAGE_TOP)
    try:
        Path(options.html).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"cannot write {options.html}: {error}") from error
