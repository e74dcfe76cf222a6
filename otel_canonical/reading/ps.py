"""`otel-canonical ps`: running pools, their workers, and which request each of them is in."""

from __future__ import annotations

import argparse
import json
import sys

from otel_canonical.reading import screen
from otel_canonical.reading.live import pages, tables
from otel_canonical.reading.live.pools import read_pool

SUMMARY = "list running pools, their workers and their open requests; nothing in them is asked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    pages.add_choice(parser)
    parser.add_argument("--json", action="store_true", help="write JSON, see docs/LIVE.md")


def run(options: argparse.Namespace) -> int:
    """Show all pools that the options choose."""
    found = pages.find(options)
    if options.json:
        pools = [
            {"pid": pool.pid, "problem": pool.problem}
            if pool.problem
            else read_pool(pool).as_json()
            for pool in found
        ]
        pages.readable(found)
        sys.stdout.write(json.dumps({"pools": pools}) + "\n")
        return 0
    pages.readable(found)
    out = screen.stdout()
    for number, pool in enumerate(found):
        if number:
            out.row([])
        if pool.problem:
            out.row([(pool.problem, "error")])
            continue
        live = read_pool(pool)
        for row in tables.head(live):
            for part in screen.fold(row, out.width):
                out.row(part)
        out.row([])
        for row in tables.worker_rows(live.workers):
            out.row(row)
        out.row([])
        if live.requests:
            for row in tables.request_rows(live.requests, out.width or tables.WIDE):
                out.row(row)
            out.row([(f"Stacks: otel-canonical stacks {live.pid}", "dim")])
        else:
            out.row([("no request is open", "dim")])
    return 0
