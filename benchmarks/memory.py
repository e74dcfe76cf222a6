"""How much memory a worker has after 10,000 requests, after 1,000,000, and in between.

`nice -n 10 python benchmarks/memory.py`; `--row bare` tells Django's and Gunicorn's own growth. One
sync worker answers requests of which hardly two are alike (`traffic.py`). Its lines are read through
a pipe and counted: one for each request, or the run fails. `--trace` also says which lines of code hold
more than at the mark before; tracing costs memory itself, so only these differences are of use then.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from environments import prepare_environments
from machine import describe_machine
from rows import Evidence, choose_rows
from servers import PATIENCE_S, create_database, start_server
from traffic import Request, ask, make_requests, send_all

MARKS = (10_000, 100_000, 250_000, 500_000, 1_000_000)
BATCH = 32
BLOCKS = Request("/blocks/", 200, (), "127.0.0.1")
PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Footprint:
    """The worker's memory in KiB: all of it, its share of it, and what it alone has written to."""

    rss: int
    pss: int
    private_dirty: int


class LineCounter:
    """Reads the lines of a pipe in a thread and counts those of requests."""

    def __init__(self, pipe: int) -> None:
        self.lines = self.others = self.bytes = 0
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, name="line-counter", daemon=True)
        self._thread.start()

    def wait_for(self, count: int) -> None:
        """Return when `count` lines have come; fail if they don't, or if more have."""
        deadline = time.monotonic() + PATIENCE_S
        while self.lines < count and time.monotonic() < deadline:
            time.sleep(0.01)
        if self.lines != count or self.others:
            raise SystemExit(f"{count} requests, {self.lines} lines and {self.others} of others")

    def _read(self) -> None:
        rest = b""
        while chunk := os.read(self._pipe, PIPE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            requests = sum(b" event_type=request " in line for line in lines)
            self.others += len(lines) - requests
            self.bytes += len(chunk)
            self.lines += requests


def read_footprint(pid: int) -> Footprint:
    """Return what the kernel says of the process (Linux, Documentation/filesystems/proc.rst)."""
    kib = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, amount = line.partition(":")
        kib[name] = int(amount.split()[0])
    return Footprint(kib["Rss"], kib["Pss"], kib["Private_Dirty"])


def main() -> None:
    """Prepare, send, print a line of the table at each mark."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the server stops too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=MARKS[-1], help="%(default)s")
    parser.add_argument("--row", default="ours", help="a row of overhead.py; %(default)s")
    parser.add_argument("--trace", action="store_true", help="with tracemalloc; slow")
    options = parser.parse_args()
    row = next(row for row in choose_rows((options.row,)) if row.name == options.row)
    if options.trace:
        row = dataclasses.replace(row, variables={**row.variables, "PYTHONTRACEMALLOC": "1"})
    marks = [mark for mark in MARKS if mark < options.requests] + [options.requests]
    environments = prepare_environments({"bare", row.environment})
    print(f"{row.name}: {describe_machine()}\n")
    print(
        "| requests | lines | RSS, KiB | since the first mark | PSS, KiB | private, KiB | blocks |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        database = Path(name) / "site.sqlite3"
        create_database(environments["bare"], database)
        pipe, stdout = os.pipe()
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        home = Path(name) / row.name
        start = start_server(row, environments[row.environment], home, database, stdout=stdout)
        with start as server:
            counter = LineCounter(pipe)
            server.wait_until_ready()
            sent, first = 0, None
            requests = make_requests(0)
            for mark in marks:
                while sent < mark - 1:
                    batch = list(itertools.islice(requests, min(BATCH, mark - 1 - sent)))
                    send_all(server.address, batch)
                    sent += len(batch)
                blocks, *grown = ask(server.address, BLOCKS).splitlines()
                sent += 1
                if row.evidence is Evidence.CANONICAL_LINE:
                    counter.wait_for(sent)
                now = read_footprint(server.worker)
                first = first or now
                print(
                    f"| {sent:,} | {counter.lines:,} | {now.rss:,} | {now.rss - first.rss:+,} "
                    f"| {now.pss:,} | {now.private_dirty:,} | {int(blocks):,} |",
                    *grown,
                    sep="\n",
                    flush=True,
                )
    print(f"\n{counter.bytes:,} bytes of lines")


if __name__ == "__main__":
    main()
