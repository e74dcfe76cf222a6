"""`otel-canonical stacks`: where each open request is, without slowing or endangering it."""

from __future__ import annotations

import argparse
import json
import sys

from otel_canonical.reading import screen
from otel_canonical.reading.live import pages, tables
from otel_canonical.reading.live.pools import read_pool
from otel_canonical.reading.live.where import locate

SUMMARY = "show the stack of every open request; no signal is sent to a worker that answers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    pages.add_choice(parser)
    parser.add_argument("--all-frames", action="store_true", help="show libraries' frames, too")
    parser.add_argument("--json", action="store_true", help="write JSON, see docs/LIVE.md")


def run(options: argparse.Namespace) -> int:
    """Show the stacks of all pools that the options choose."""
    pools = [
        (pool.pid, locate(read_pool(pool, with_memory=False)))
        for pool in pages.readable(pages.find(options))
    ]
    if options.json:
        found = [{"pid": pid, "stacks": [place.as_json() for place in at]} for pid, at in pools]
        sys.stdout.write(json.dumps({"pools": found}) + "\n")
        return 0
    out = screen.stdout()
    for pid, places in pools:
        if len(pools) > 1:
            out.row([(f"pool {pid}", "bold")])
        if not places:
            out.row([("no request is open", "dim")])
        for row in tables.stack_rows(places, all_frames=options.all_frames):
            out.row(row)
    return 0
