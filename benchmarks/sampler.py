"""What the arbiter's look at the pool costs, as a share of one core, beside Gunicorn's own look.

Needs the package installed: `.venv/bin/python benchmarks/sampler.py`. A pool of simulated workers is
looked at again and again: their slots are on a real scoreboard, half of them busy, and the kernel is
asked about real listening sockets. Gunicorn's own look, once a second as well, is at the heartbeat file
of each worker; both take turns in one run. Time is the CPU time of the process, so neither other
processes nor waiting count.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

from otel_canonical.arbiter.pool_sampler import PoolSampler
from otel_canonical.pool import backlog
from otel_canonical.pool.counters import no_counts
from otel_canonical.pool.ledger import PoolLedger, PoolSample, PoolShape
from otel_canonical.request.reports import PoolReport, parse_report
from otel_canonical.settings import Settings

TEXTS = ("id", "", "", "", "GET", "", "", "/")
TIMEOUT_S = 30.0


class Pool:
    """A simulated pool and a watch over it; it looks like Gunicorn's arbiter as far as that is asked."""

    def __init__(self, shape: PoolShape, *, own_sockets: bool) -> None:
        self.sent = ""
        ledger = PoolLedger(shape, no_counts())
        places = [place for _ in range(shape.workers) if (place := ledger.open_place())]
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in places if own_sockets]
        self.LISTENERS = [] if own_sockets else [socket.create_server(("127.0.0.1", 0))]
        self._sockets = sockets
        self.WORKERS = {10_000 + place.number: place for place in places}
        for place in places:
            for slot in place.scoreboard.slots_of(place.block)[::2]:
                slot.open(1, time.monotonic_ns(), 3, False, TEXTS)
            if own_sockets:
                inodes = backlog.inodes_of(sockets[place.number : place.number + 1])
                place.scoreboard.counters.set_listeners(place.block, inodes)
        self._pids = {place.number: pid for pid, place in self.WORKERS.items()}
        self._sampler = PoolSampler(
            Settings(), ledger, lambda event: None, lambda workers: self._pids, self._send
        )

    def look(self) -> None:
        """Take a sample and write it as the reporter gets it."""
        self._sampler.sample(self, is_last=True)

    def read(self) -> None:
        """Do what the reporter does with a sample."""
        parse_report(self.sent)

    def _send(self, sample: PoolSample) -> None:
        self.sent = PoolReport(sample, 1, 0).to_json()


@contextlib.contextmanager
def heartbeats(workers: int) -> Iterator[Callable[[], None]]:
    """Yield what Gunicorn does for each worker once a second: it reads its file's time."""
    with contextlib.ExitStack() as files:
        beats = [files.enter_context(tempfile.TemporaryFile()) for _ in range(workers)]

        def look() -> None:
            now = time.monotonic()
            late = [beat for beat in beats if now - os.fstat(beat.fileno()).st_mtime > TIMEOUT_S]
            assert not late

        yield look


def main() -> None:
    """Measure all pools in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=64, help="%(default)s")
    parser.add_argument("--rounds", type=int, default=15, help="%(default)s")
    parser.add_argument("--looks", type=int, default=40, help="in a turn; %(default)s")
    options = parser.parse_args()
    workers = options.workers
    sync, gthread = PoolShape(1, workers), PoolShape(8, workers, has_queues=True)
    with heartbeats(workers) as gunicorn:
        pools = {
            "sync": Pool(sync, own_sockets=False),
            "gthread, 8 threads": Pool(gthread, own_sockets=False),
            "gevent or ASGI": Pool(PoolShape(1000, workers, is_bounded=False), own_sockets=False),
            "sync, --reuse-port": Pool(sync, own_sockets=True),
        }
        turns = {"Gunicorn: heartbeats": gunicorn}
        for name, pool in pools.items():
            turns[f"arbiter: {name}"] = pool.look
        turns["reporter: sync"] = pools["sync"].read
        spent: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(options.rounds):
            for name, look in turns.items():
                began = time.process_time()
                for _ in range(options.looks):
                    look()
                spent[name].append((time.process_time() - began) / options.looks)
    rounds = f"{options.rounds} rounds of {options.looks} looks"
    print(f"CPython {platform.python_version()}, {workers} workers, {rounds}")
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print("| once a second | µs, median | µs, min..max | share of one core |")
    print("|---|--:|--:|--:|")
    for name, seconds in spent.items():
        median = statistics.median(seconds)
        bounds = f"{min(seconds) * 1e6:.0f}..{max(seconds) * 1e6:.0f}"
        print(f"| {name} | {median * 1e6:.0f} | {bounds} | {median:.4%} |")


if __name__ == "__main__":
    main()
