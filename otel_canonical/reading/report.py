"""`otel-canonical report`: what is slow, what fails, and where, out of nothing but files of lines."""

from __future__ import annotations

import argparse

from otel_canonical.reading.problems import CommandFailed

SUMMARY = "show what is slow and what fails, with its place in the code; --html writes a page"

_TOP = 10
#: Into how many parts time is cut.
_TERMINAL_PARTS = 12


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
        "--top", type=int, default=_TOP, metavar="N", help=f"rows of each table (default {_TOP})"
    )
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="as for tail"
    )


def run(options: argparse.Namespace) -> int:
    """Write the report; return 0."""
    # DuckDB is loaded by what these import.
    from otel_canonical.reading.events import load
    from otel_canonical.reading.report_contents import contents
    from otel_canonical.reading.report_scope import KEYS, Limits, Scope
    from otel_canonical.reading.report_terminal import show
    from otel_canonical.reading.screen import stdout

    if options.top < 1:
        raise CommandFailed("--top takes a number of rows, 1 or more")
    limits = Limits(options.since, options.until, options.route)
    with load(options.files, KEYS) as events:
        show(contents(Scope(events, limits), _TERMINAL_PARTS), stdout(options.color), options.top)
    return 0
