"""How long clients wait under load: ours and others beside bare Gunicorn, all in one run.

`python benchmarks/latency.py`. Requests come when they come (a Poisson process, the same moments for
every row), not when an answer before them is back; a wait begins when its request was due. So what
queues behind a slow one waits, as it would at a live site.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from client import send_requests
from cpu import read_process_ns
from environments import prepare_environments
from evidence import check_lines
from machine import describe_machine
from rows import Evidence, Row, choose_rows
from servers import Server, create_database, start_server
from sink import Sink

BARE = "bare"
ROWS = "bare,bare-again,access-log,ours,ours-otlp-1,ours-otlp-100,plain-otel-100"
PATH = "/ok/"
#: A worker of ours has one full garbage collection in its first 1,700 requests: what the app has imported becomes old.
WARM_UP = 2000
#: More requests than that never wait at once: the machine would be overloaded, not loaded.
CLIENTS = 64
RESP_TIME = re.compile(r"event_type=request .* resp_time=(\S+)")


@dataclass(slots=True)
class Turns:
    """What one row did in one round."""

    #: How long each request waited, in seconds.
    waits: list[float] = field(default_factory=list)
    #: How long the turns took, and what CPU time the worker used in them.
    took_s: float = 0.0
    cpu_s: float = 0.0
    #: What its lines say that each request took, in seconds; empty of a row without our lines.
    told: list[float] = field(default_factory=list)

    @property
    def busy(self) -> float:
        """Return which share of the time the worker was busy."""
        return self.cpu_s / self.took_s


def measure_round(
    rows: Sequence[Row],
    environments: dict[str, Path],
    directory: Path,
    database: Path,
    otlp: str,
    options: argparse.Namespace,
    seed: int,
) -> dict[str, Turns]:
    """Start all rows, load them in turn, stop them; every row must have written its lines."""
    order = random.Random(seed)
    turns = {row.name: Turns() for row in rows}
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as clients:
        servers = []
        for row in order.sample(rows, len(rows)):
            start = start_server(
                row, environments[row.environment], directory / row.name, database, otlp
            )
            servers.append(stack.enter_context(start))
        for server in servers:
            server.wait_until_ready()
            send_requests(server.address, PATH, WARM_UP)
        between_s = _service_time_s(servers) / options.load
        for _ in range(options.requests // options.block):
            moments = _moments(order, between_s, options.block)
            for server in order.sample(servers, len(servers)):
                _offer(server, moments, clients, turns[server.row.name])
    for row in rows:
        home, done = directory / row.name, turns[row.name]
        check_lines(row, home, {PATH: WARM_UP + len(done.waits)})
        if row.evidence is Evidence.CANONICAL_LINE:
            told = RESP_TIME.findall((home / "stdout.log").read_text())
            done.told = [float(seconds) for seconds in told[-len(done.waits) :]]
    return turns


def _service_time_s(servers: Sequence[Server]) -> float:
    """Return how long bare Gunicorn takes for one request when nobody else asks."""
    bare = next(server for server in servers if server.row.name == BARE)
    began = time.monotonic()
    send_requests(bare.address, PATH, WARM_UP)
    return (time.monotonic() - began) / WARM_UP


def _moments(order: random.Random, between_s: float, count: int) -> list[float]:
    moments, at = [], 0.0
    for _ in range(count):
        at += order.expovariate(1 / between_s)
        moments.append(at)
    return moments


def _offer(server: Server, moments: list[float], clients: ThreadPoolExecutor, turns: Turns) -> None:
    """Send a request at each of these moments, in seconds from now; note how long each waited."""
    used_ns = read_process_ns(server.worker)
    began = time.monotonic()

    def ask(moment: float) -> float:
        send_requests(server.address, PATH, 1)
        return time.monotonic() - began - moment

    asked = []
    for moment in moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        asked.append(clients.submit(ask, moment))
    turns.waits += [one.result() for one in asked]
    turns.took_s += time.monotonic() - began
    turns.cpu_s += (read_process_ns(server.worker) - used_ns) / 1e9


def format_table(rounds: list[dict[str, Turns]], names: Sequence[str]) -> str:
    """Return medians over the rounds; ratios are taken within a round."""
    lines = [
        "| row | worker busy | p50, ms | to bare | p99, ms | to bare | min..max | p99 of `resp_time` |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in names:
        busy = statistics.median([turns[name].busy for turns in rounds])
        cells = [name, f"{busy:.0%}"]
        for percent in (50, 99):
            found = [_percentile(turns[name].waits, percent) for turns in rounds]
            bare = [_percentile(turns[BARE].waits, percent) for turns in rounds]
            ratios = [one / other for one, other in zip(found, bare, strict=True)]
            cells += [f"{statistics.median(found) * 1000:.2f}", f"{statistics.median(ratios):.2f}"]
        cells.append(f"{min(ratios):.2f}..{max(ratios):.2f}")
        told = [_percentile(turns[name].told, 99) for turns in rounds if turns[name].told]
        cells.append(f"{statistics.median(told) * 1000:.2f}" if told else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percentile(waits: list[float], percent: int) -> float:
    return statistics.quantiles(waits, n=100)[percent - 1]


def main() -> None:
    """Prepare, measure, print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that servers are stopped too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="ROW,ROW", default=ROWS, help="%(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="%(default)s")
    parser.add_argument("--requests", type=int, default=2000, help="a row and round; %(default)s")
    parser.add_argument("--block", type=int, default=100, help="requests a row gets in its turn")
    parser.add_argument(
        "--load", type=float, default=0.4, help="of what bare could do; %(default)s"
    )
    options = parser.parse_args()
    rows = choose_rows(tuple(options.only.split(",")))
    environments = prepare_environments({row.environment for row in rows})
    rounds = []
    with tempfile.TemporaryDirectory(prefix="latency-") as name, Sink() as sink:
        directory = Path(name)
        database = directory / "site.sqlite3"
        create_database(environments[BARE], database)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            home = directory / str(number)
            rounds.append(
                measure_round(rows, environments, home, database, sink.endpoint, options, number)
            )
    print(describe_machine())
    print(f"{options.rounds} rounds of {options.requests} requests, load {options.load}\n")
    print(format_table(rounds, [row.name for row in rows]))


if __name__ == "__main__":
    main()
