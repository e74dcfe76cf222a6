"""What one request costs the worker's CPU, for ours and for others, all interleaved in one run.

Run `python benchmarks/overhead.py --help`; `benchmarks/README.md` says what the numbers mean.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from environments import list_packages, prepare_environments
from report import Rounds, format_tables, gather_facts, to_json
from rounds import Plan, run_round
from rows import QUICK, ROWS, Row, choose_rows
from servers import create_database
from sink import Sink

FEWEST_ROUNDS = 5


def read_options() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--only", metavar="ROW,ROW", default=",".join(QUICK), help="%(default)s")
    choice.add_argument("--all", action="store_true", help="every row")
    parser.add_argument("--rounds", type=int, default=7, help="%(default)s")
    parser.add_argument("--ok", type=int, default=1500, help="requests a round to /ok/")
    parser.add_argument("--queries", type=int, default=700, help="requests a round to /queries/10/")
    parser.add_argument("--warm-up", type=int, default=200, help="%(default)s, on each path")
    parser.add_argument("--block", type=int, default=100, help="requests a row gets in its turn")
    parser.add_argument("--idle", type=float, default=2.0, help="seconds of silence a round")
    parser.add_argument(
        "--pin", action="store_true", help="all servers on one core: less noise, kinder to threads"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    return parser.parse_args()


def main() -> None:
    """Prepare, measure, print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that servers are stopped too
    options = read_options()
    wanted = tuple(row.name for row in ROWS) if options.all else tuple(options.only.split(","))
    rows = choose_rows(wanted)
    plan = Plan(
        loads=(("/ok/", options.ok), ("/queries/10/", options.queries)),
        warm_up=options.warm_up,
        block=options.block,
        idle_s=options.idle,
        server_core=take_cores() if options.pin else None,
    )
    environments = prepare_environments({row.environment for row in rows})
    packages = {name: list_packages(path) for name, path in environments.items()}
    shown_options = {name: value for name, value in vars(options).items() if name != "json"}
    facts = gather_facts(packages, shown_options)
    rounds = measure(rows, environments, plan, options.rounds)
    paths = [path for path, _ in plan.loads]
    print("\n".join(f"{key}: {fact}" for key, fact in facts.items() if key != "options"))
    print("\n" + format_tables(rounds, rows, paths))
    if options.rounds < FEWEST_ROUNDS:
        print(f"\nOnly {options.rounds} rounds: a trial, not a measurement.")
    if options.json:
        options.json.write_text(json.dumps(to_json(rounds, rows, paths, facts), indent=1) + "\n")


def take_cores() -> int:
    """Keep the first core for client and sink, return the last one for the servers."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("--pin needs two cores: one for the client, one for the servers")
    os.sched_setaffinity(0, {cores[0]})
    return cores[-1]


def measure(rows: tuple[Row, ...], environments: dict[str, Path], plan: Plan, count: int) -> Rounds:
    """Return the results of `count` rounds."""
    rounds = []
    with tempfile.TemporaryDirectory(prefix="overhead-") as name, Sink() as sink:
        directory = Path(name)
        database = directory / "site.sqlite3"
        create_database(environments["bare"], database)
        for number in range(count):
            load = os.getloadavg()[0]
            print(f"round {number + 1} of {count}, load {load:.1f}", file=sys.stderr, flush=True)
            home = directory / str(number)
            rounds.append(run_round(rows, environments, database, home, plan, sink, seed=number))
    return rounds


if __name__ == "__main__":
    main()
