"""What it costs to write one event as a line: our encoders and others, interleaved in one interpreter.

`python benchmarks/encoders.py`. The events are those of real requests: a Gunicorn with us inside
serves them, and what its encoder was given is measured here again. An encoder takes its turn of calls
in a new order each round, and what it wrote is parsed back: all fields must be there.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import Address
from environments import prepare_environments
from machine import describe_machine
from rows import choose_rows
from servers import create_database, start_server
from traffic import BROWSER, Request, send_all

if TYPE_CHECKING:  # this file runs once outside the environment that has them
    from otel_canonical.event.event import CanonicalEvent

PATHS = ("/ok/", "/queries/10/")
ENVIRONMENT = "encoders"
PEERS = ("logfmter", "structlog")
BASE = "json.dumps"
POOL_WITHIN_S = 10.0
WARM_UP = 20

Encode = Callable[[], str]
Facts = dict[str, Any]


def capture_events(environment: Path) -> dict[str, str]:
    """Return the literal of one event of each path, from a worker that has served some before."""
    row = next(row for row in choose_rows(("ours",)) if row.name == "ours")
    with tempfile.TemporaryDirectory(prefix="encoders-") as name:
        directory = Path(name)
        kept, database = directory / "events", directory / "site.sqlite3"
        create_database(environment, database)
        row = dataclasses.replace(
            row,
            gunicorn_args=("-c", "gunicorn_conf_capture.py"),
            variables={"BENCHMARK_EVENTS": str(kept)},
        )
        with start_server(row, environment, directory / "ours", database) as server:
            server.wait_until_ready()
            _wait_for_pool(server.address, kept)
            before = len(kept.read_text().splitlines())
            for path in PATHS:
                _ask(server.address, path)
        literals = kept.read_text().splitlines()[before:]
    if len(literals) != len(PATHS) * WARM_UP:
        raise SystemExit(f"{len(PATHS) * WARM_UP} requests made {len(literals)} events")
    return {path: literals[WARM_UP * (at + 1) - 1] for at, path in enumerate(PATHS)}


def _wait_for_pool(address: Address, kept: Path) -> None:
    """Ask until the arbiter has looked at the backlog for the first time: from then on all lines have it."""
    deadline = time.monotonic() + POOL_WITHIN_S
    while time.monotonic() < deadline:
        _ask(address, PATHS[0])
        if "'POOL'" in kept.read_text().splitlines()[-1]:
            return
    raise SystemExit(f"no event with a backlog within {POOL_WITHIN_S} s")


def _ask(address: Address, path: str) -> None:
    headers = (f"User-Agent: {BROWSER}", "Referer: http://127.0.0.1/items/kettle/")
    for _ in range(WARM_UP):
        send_all(address, [Request(path, 200, headers, "127.0.0.9")])


def revive(literal: str) -> CanonicalEvent:
    """Return the event as the worker had it."""
    from otel_canonical.event import rows
    from otel_canonical.event.event import CanonicalEvent, EventType

    event_type, captured = ast.literal_eval(literal)
    return CanonicalEvent(
        EventType(event_type), [(getattr(rows, name), values) for name, values in captured]
    )


def make_encoders(event: CanonicalEvent) -> dict[str, Encode]:
    """Return who can write the event; each starts with the event as its own caller has it."""
    from otel_canonical.event import json_lines, logfmt, row_text

    logfmter, structlog = map(import_module, PEERS)  # the linters' environment has neither
    pairs = event.pairs
    facts = dict(pairs)
    as_logfmt = event.as_logfmt
    structlog_logfmt = structlog.processors.LogfmtRenderer(bool_as_flag=False)
    structlog_json = structlog.processors.JSONRenderer()

    def as_logfmt_of_new_texts() -> str:
        logfmt.known_values.clear()
        row_text.forget()
        return as_logfmt()

    return {
        BASE: lambda: json.dumps(facts),
        "ours: the event's rows, logfmt": as_logfmt,
        "ours: rows, no text seen before": as_logfmt_of_new_texts,
        "ours: pairs, logfmt": lambda: logfmt.encode(pairs),
        "ours: pairs, json": lambda: json_lines.encode(pairs),
        "logfmter": lambda: logfmter.Logfmter.format_params(facts),
        "structlog LogfmtRenderer": lambda: str(structlog_logfmt(None, "info", facts)),
        "structlog JSONRenderer": lambda: str(structlog_json(None, "info", facts)),
    }


def check_line(name: str, line: str, facts: Facts) -> None:
    """Fail unless the line says all of the event, and nothing else."""
    from otel_canonical.event.logfmt import parse

    found: Facts = json.loads(line) if line.startswith("{") else parse(line)
    wrong = [
        key for key in facts.keys() | found.keys() if not _agree(found.get(key), facts.get(key))
    ]
    if wrong:
        raise SystemExit(f"{name} wrote {wrong} differently: {line}")


def _agree(written: Any, meant: Any) -> bool:
    if written is None or meant is None:
        return False
    if isinstance(meant, bool):
        return str(written).lower() == str(meant).lower()
    if isinstance(meant, (int, float)):
        return abs(float(written) - meant) < 1e-6
    return bool(written == meant)


def measure(encoders: dict[str, Encode], rounds: int, calls: int) -> dict[str, list[float]]:
    """Return the µs a call of each encoder and round, by the CPU clock of this process."""
    spent: dict[str, list[float]] = {name: [] for name in encoders}
    turns = range(calls)
    for number in range(rounds):
        for name in random.Random(number).sample(list(encoders), len(encoders)):
            encode = encoders[name]
            began_ns = time.process_time_ns()
            for _ in turns:
                encode()
            spent[name].append((time.process_time_ns() - began_ns) / calls / 1000)
    return spent


def format_table(spent: dict[str, list[float]], encoders: dict[str, Encode]) -> str:
    """Return medians, quartiles, and ratios to `BASE`, which are taken within a round."""
    lines = [
        "| encoder | µs a line | middle half | to json.dumps | middle half | bytes |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, times in spent.items():
        ratios = [own / base for own, base in zip(times, spent[BASE], strict=True)]
        size = len(encoders[name]().encode())
        lines.append(
            f"| {name} | {statistics.median(times):.2f} | {_middle(times)} "
            f"| {statistics.median(ratios):.2f} | {_middle(ratios)} | {size} |"
        )
    return "\n".join(lines)


def _middle(figures: list[float]) -> str:
    low, _, high = statistics.quantiles(figures, n=4)
    return f"{low:.2f}..{high:.2f}"


def measure_inside(options: argparse.Namespace) -> None:
    """Do the measuring; runs in the environment that has us and the peers."""
    peers = ", ".join(f"{name} {version(name)}" for name in PEERS)
    print(f"{describe_machine()}, {peers}; {options.rounds} rounds of {options.calls} calls")
    for path, literal in json.loads(sys.stdin.read()).items():
        event = revive(literal)
        encoders = make_encoders(event)
        facts = dict(event.pairs)
        for name, encode in encoders.items():
            check_line(name, encode(), facts)
        spent = measure(encoders, options.rounds, options.calls)
        print(f"\n`{path}`, {len(facts)} fields\n\n{format_table(spent, encoders)}")


def main() -> None:
    """Prepare, capture, and go on in the environment of the encoders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="%(default)s")
    parser.add_argument("--calls", type=int, default=200, help="in a turn; %(default)s")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        measure_inside(options)
        return
    environment = prepare_environments({ENVIRONMENT})[ENVIRONMENT]
    command = [str(environment / "bin/python"), __file__, "--inside", *sys.argv[1:]]
    subprocess.run(
        command, input=json.dumps(capture_events(environment)), text=True, check=True, env=_clean()
    )


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


if __name__ == "__main__":
    main()
