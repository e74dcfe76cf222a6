"""How long a worker needs from its fork until it is ready, ours and plain OpenTelemetry in one run.

`python benchmarks/startup.py`. Every round starts each row's server anew, in a new order, and then
ends its worker a few times, so that the arbiter starts others. `exec to answer` is the whole start:
from the command until the first request is answered.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client import send_requests
from environments import list_packages, prepare_environments
from machine import describe_machine
from rows import Row, choose_rows
from servers import PATIENCE_S, create_database, start_server
from sink import Sink

NOTHING, BARE, PLAIN = "", "bare", "plain-otel-100"
ROWS = (BARE, PLAIN, "plain-otel-off", "ours-sqlite3", "ours-otlp-100")


@dataclass(frozen=True, slots=True)
class Starts:
    """What one round found out about one row, in ms."""

    wall: float  # fork to ready, median over the workers
    cpu: float
    answer: float  # exec to the first answer


def measure(
    row: Row, environment: Path, home: Path, database: Path, otlp: str, more: int
) -> Starts:
    """Start the row's server and `more` workers after its first one."""
    told = home.parent / f"{row.name}.startup"
    row = dataclasses.replace(
        row,
        gunicorn_args=(*row.gunicorn_args, "-c", "gunicorn_conf_startup.py"),
        variables={**row.variables, "BENCHMARK_STARTUP": str(told)},
    )
    began_ns = time.monotonic_ns()
    with start_server(row, environment, home, database, otlp) as server:
        server.wait_until_ready()
        send_requests(server.address, "/ok/", 1)
        answer = (time.monotonic_ns() - began_ns) / 1e6
        for number in range(1, more + 1):
            os.kill(server.worker, signal.SIGTERM)
            lines = _wait_for_lines(told, number + 1)
            server.worker = _newest_child(server.process.pid, but=server.worker)
        lines = _wait_for_lines(told, more + 1)
    walls, cpus = zip(*[map(int, line.split()) for line in lines], strict=True)
    return Starts(statistics.median(walls) / 1e6, statistics.median(cpus) / 1e6, answer)


def format_table(rounds: list[dict[str, Starts]], names: list[str]) -> str:
    """Return medians over the rounds; differences are taken within a round."""
    lines = [
        "| row | fork to ready, ms | to plain | min..max | its CPU, ms | to plain | to bare "
        "| exec to answer, ms | to plain | min..max |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    figures: tuple[Callable[[Starts], float], ...] = (
        lambda starts: starts.wall,
        lambda starts: starts.cpu,
        lambda starts: starts.answer,
    )
    for name in names:
        wall, cpu, answer = (
            {base: _differences(rounds, name, base, figure) for base in (NOTHING, PLAIN, BARE)}
            for figure in figures
        )
        cells = [
            *(f"{statistics.median(wall[NOTHING]):.0f}", *_median_and_range(wall[PLAIN])),
            f"{statistics.median(cpu[NOTHING]):.0f}",
            *(_median_and_range(cpu[base])[0] for base in (PLAIN, BARE)),
            *(f"{statistics.median(answer[NOTHING]):.0f}", *_median_and_range(answer[PLAIN])),
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def _differences(
    rounds: list[dict[str, Starts]], name: str, base: str, figure: Callable[[Starts], float]
) -> list[float]:
    """Return a row's figure less the base's, round by round; nothing where it is the base itself."""
    if name == base:
        return []
    return [figure(found[name]) - (figure(found[base]) if base else 0) for found in rounds]


def _median_and_range(figures: list[float]) -> list[str]:
    if not figures:
        return ["", ""]
    return [f"{statistics.median(figures):+.0f}", f"{min(figures):+.0f}..{max(figures):+.0f}"]


def _wait_for_lines(file: Path, count: int) -> list[str]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) >= count:
            return lines
        time.sleep(0.01)
    raise SystemExit(f"{file.name}: worker {count} never became ready")


def _newest_child(arbiter: int, but: int) -> int:
    # Workers are children of the arbiter's main thread, in the order in which they were forked.
    children = Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split()
    return next(int(pid) for pid in reversed(children) if int(pid) != but)


def main() -> None:
    """Prepare, measure, print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that servers are stopped too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="%(default)s")
    parser.add_argument(
        "--more", type=int, default=4, help="further workers in a round; %(default)s"
    )
    options = parser.parse_args()
    rows = choose_rows(ROWS)
    environments = prepare_environments({row.environment for row in rows})
    rounds = []
    with tempfile.TemporaryDirectory(prefix="startup-") as name, Sink() as sink:
        directory = Path(name)
        database = directory / "site.sqlite3"
        create_database(environments["bare"], database)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            found = {}
            for row in random.Random(number).sample(rows, len(rows)):
                home = directory / str(number) / row.name
                environment = environments[row.environment]
                found[row.name] = measure(
                    row, environment, home, database, sink.endpoint, options.more
                )
            rounds.append(found)
    packages = list_packages(environments["plain-otel"])
    print(f"{describe_machine()}, OpenTelemetry {packages['opentelemetry-sdk']}")
    print(f"{options.rounds} rounds of {options.more + 1} workers\n")
    print(format_table(rounds, [row.name for row in rows]))


if __name__ == "__main__":
    main()
