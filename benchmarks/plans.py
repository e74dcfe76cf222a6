"""How long requests with a slow query take, while plans are fetched and while they are not.

Run `python benchmarks/plans.py`, in an environment with the tests' packages; needs PostgreSQL. Three servers
on one PostgreSQL are asked in turns: without plans, with a plan of every query that may have one
(`OTEL_PYTHON_CANONICAL_DB_EXPLAIN_SECONDS=0.0001`; no two queries are alike, so that is one a second), and
without once more: what that one differs by is noise. One sync worker each, one request after the other; a
turn begins when the plans of the turn before have been fetched.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
from tests.support.postgres import postgres  # noqa: E402  # found by the line above
from tests.support.servers import Server, gunicorn  # noqa: E402

SITE = Path(__file__).resolve().parent / "site"
EXPLAINS = {"OTEL_PYTHON_CANONICAL_DB_EXPLAIN_SECONDS": "0.0001"}
ROWS: dict[str, dict[str, str]] = {"off": {}, "on": EXPLAINS, "off-again": {}}
PERCENTS = (50, 90, 99)
#: Longer than there is between two plans.
PAUSE_S = 2.0


def ask(server: Server, number: int) -> float:
    """Return how long one answer took, ms."""
    started = time.perf_counter()
    answer = server.get(f"/counts/{number}/")
    took = (time.perf_counter() - started) * 1e3
    if answer.status != 200:
        raise SystemExit(server.report())
    return took


def measure(rounds: int, seconds: float) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Return how long each request of each row took, and how many plans were written."""
    took: dict[str, list[float]] = {name: [] for name in ROWS}
    numbers = iter(range(10**9))
    order = random.Random(1)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plans-")))
        directory = stack.enter_context(postgres())
        servers: dict[str, Server] = {}
        for name, variables in ROWS.items():
            home = scratch / name
            home.mkdir()
            started = gunicorn("planned_site", home, cwd=SITE, SITE_POSTGRES=directory, **variables)
            servers[name] = stack.enter_context(started)
            for _ in range(20):
                ask(servers[name], next(numbers))
        for _ in range(rounds):
            for name in order.sample(list(ROWS), len(ROWS)):
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    took[name].append(ask(servers[name], next(numbers)))
                let_finish(servers[name])
        plans = {name: plans_of(servers[name]) for name in ROWS}
    return took, plans


def plans_of(server: Server) -> int:
    """Return how many plans were written."""
    return server.stdout.read_text().count("event_type=slow_query")


def let_finish(server: Server) -> None:
    """Return when no plan has been written for a while: the last ones of a turn come after it."""
    before = -1
    while (now := plans_of(server)) != before:
        before = now
        time.sleep(PAUSE_S)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--seconds", type=float, default=10, help="of a row's turn; %(default)s")
    options = parser.parse_args()
    took, plans = measure(options.rounds, options.seconds)
    print(describe_machine())
    print("| plans | requests | plans written | p50, ms | p90 | p99 | max |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, times in took.items():
        cuts = statistics.quantiles(times, n=100)
        cells = [f"{cuts[percent - 1]:.2f}" for percent in PERCENTS]
        row = [name, str(len(times)), str(plans[name]), *cells, f"{max(times):.1f}"]
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
