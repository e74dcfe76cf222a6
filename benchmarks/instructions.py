"""User-space instructions that a request costs its worker: a number that doesn't drift with the machine.

Run `python benchmarks/instructions.py [--only ROW,ROW] [--paths PATH,PATH]`; needs valgrind and a C compiler.
A worker is fed requests from inside and callgrind counts what serves them, in all its threads, exports
included, whatever else the machine does. README.md says what is left of noise. Valgrind slows programs but
not clocks, so the timers of exporters are slowed, too: batches are as large as on a busy worker.
Instructions of the kernel are not counted. Where objects lie in memory decides on collisions in the
interpreter's caches; `--seeds 5` counts with five layouts and shows the median.

With `--check` the command fails if a row adds more than its bound. A bound is a share of what the row `bare`
costs, because Pythons and C libraries differ. Whoever goes beyond one has made every request of every site
dearer; whoever stays far below lowers it.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from environments import list_packages, prepare_environments
from machine import describe_machine
from rows import Row, choose_rows
from servers import SITE, create_database, start_server
from sink import Sink

ROWS = (
    *("bare", "access-log", "ours", "ours-sqlite3", "ours-otlp-1", "ours-otlp-100-logs-0"),
    *("ours-otlp-100", "plain-otel-100", "django-structlog", "ancestor"),
)
OK, QUERIES = "/ok/", "/queries/10/"

#: By Python, row and path: added instructions, as a share of the instructions of the row `bare`.
BOUNDS = {
    (3, 11): {
        ("ours-sqlite3", OK): 0.137,
        ("ours-otlp-100", QUERIES): 0.175,
    },
}
#: So much more than a bound is allowed.
SLACK = 1.03

#: Of each path, after a warm-up.
REQUESTS = 50

VALGRIND = ("valgrind", "--trace-children=yes", "--tool=callgrind", "--instr-atstart=no")
TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)

#: A program under valgrind is some fifty times slower.
SLOWER = 60
PATIENCE_S = 1200
PATIENT_WORKERS = ("--timeout", "1200", "--graceful-timeout", "300")
#: The SDK's defaults, as much slower.
SLOW_TIMERS = {
    "OTEL_BSP_SCHEDULE_DELAY": str(SLOWER * 5000),
    "OTEL_BLRP_SCHEDULE_DELAY": str(SLOWER * 1000),
    "OTEL_METRIC_EXPORT_INTERVAL": str(SLOWER * 60_000),
}

#: Whose versions are printed.
PACKAGES = (
    *("django", "gunicorn", "opentelemetry-sdk", "opentelemetry-instrumentation-django"),
    *("django-structlog", "structlog", "gunicorn-django-canonical-logs"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class CountedRow(Row):
    """A row whose processes run under valgrind."""

    counts: str = ""

    def command(self) -> list[str]:
        """Return the row's own command, below valgrind; its worker is fed."""
        command = Row.command(self)
        command[-1:] = [*PATIENT_WORKERS, "fed_wsgi"]
        program = shutil.which(command[0], path=self.variables["PATH"]) or command[0]
        # The interpreter of the `#!` line has to be named: valgrind starts programs only.
        python = str(Path(program).parent / "python")
        return [*VALGRIND, f"--callgrind-out-file={self.counts}", python, program, *command[1:]]


def read_options() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="ROW,ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--paths", metavar="PATH,PATH", default=f"{OK},{QUERIES}")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="how many are counted")
    parser.add_argument(
        "--seeds", type=int, default=1, help="count with so many hash seeds, show the median"
    )
    parser.add_argument("--venv", type=Path, help="use this environment for every row")
    parser.add_argument(
        "--check", action="store_true", help="fail beyond a bound; default rows: those with one"
    )
    return parser.parse_args()


def main() -> None:
    """Prepare, measure, print; exit with 1 if a bound was to be checked and is exceeded."""
    options = read_options()
    for program in ("valgrind", "cc"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed: apt-get install valgrind gcc")
    bounds = BOUNDS.get(sys.version_info[:2], {}) if options.check else {}
    if options.check and not bounds:
        print(f"No bounds are known for this Python; there are some for {list(BOUNDS)}")
        return
    only = options.only or ",".join({row for row, _ in bounds} or ROWS)
    rows, paths = choose_rows(tuple(only.split(","))), options.paths.split(",")
    if options.venv:
        environments = {row.environment: options.venv.absolute() for row in rows}
    else:
        environments = prepare_environments({row.environment for row in rows})
    print(describe_machine())
    print(describe_packages(set(environments.values())))
    bare: dict[str, float] = {}
    exceeded = False
    with tempfile.TemporaryDirectory(prefix="instructions-") as name, Sink() as sink:
        home = Path(name)
        create_database(next(iter(environments.values())), home / "site.sqlite3")
        source = SITE / "fed_worker.c"
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", home / "counter.so", source], check=True
        )
        for row in rows:
            environment, requests = environments[row.environment], options.requests
            counts = [
                count_instructions(row, environment, paths, home, sink, requests, seed)
                for seed in range(options.seeds)
            ]
            costs = {path: statistics.median([one[path] for one in counts]) for path in paths}
            bare = bare or costs
            for path, cost in costs.items():
                added = cost - bare[path]
                line = f"{path:13} {row.name:22} {cost / 1e3:10,.0f} k {added / 1e3:+8,.0f} k"
                if options.seeds > 1:
                    spread = sorted([one[path] - bare[path] for one in counts])
                    line += f"   {spread[0] / 1e3:+,.0f} k to {spread[-1] / 1e3:+,.0f} k"
                bound = bounds.get((row.name, path))
                if bound is not None:
                    line += f"   {added / bare[path]:.4f} of bare, bound {bound}"
                    if added > bound * SLACK * bare[path]:
                        exceeded = True
                        line += ": EXCEEDED"
                print(line, flush=True)
    sys.exit(exceeded)


def count_instructions(
    row: Row, environment: Path, paths: list[str], home: Path, sink: Sink, requests: int, seed: int
) -> dict[str, float]:
    """Return the instructions of one request, by its path.

    Args:
        row: what is counted.
        environment: where it is installed.
        paths: which are asked for.
        home: where databases and counts go.
        sink: takes what is exported.
        requests: how many are counted.
        seed: of Python's hashes. With another one objects lie elsewhere in memory.
    """
    name = f"{row.name}.{seed}"
    place = home / name
    fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(Row)}
    fields["variables"] = {
        **row.variables,
        **SLOW_TIMERS,
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "PYTHONHASHSEED": str(seed),
        "FED_COUNTER": str(home / "counter.so"),
        "FED_REQUESTS": str(requests),
        "FED_PATHS": ",".join(paths),
    }
    counted = CountedRow(**fields, counts=str(home / f"{name}.%p"))
    database = home / "site.sqlite3"
    with start_server(counted, environment, place, database, sink.endpoint) as server:
        # It ends by itself when all is counted.
        server.process.wait(PATIENCE_S)
        log = server.tail()
    sink.take(row.name)
    found = {}
    for number, path in enumerate(paths, 1):
        totals = [
            int(total[1])
            for part in home.glob(f"{name}.*.{number}")
            if (total := TOTAL.search(part.read_text(errors="replace")))
        ]
        if not totals:
            raise SystemExit(f"{row.name}: nothing was counted for {path}\n{log}")
        found[path] = max(totals) / requests
    return found


def describe_packages(environments: set[Path]) -> str:
    """Return the versions of what is compared."""
    found: dict[str, str] = {}
    for environment in environments:
        found |= list_packages(environment)
    return ", ".join(f"{name} {found[name]}" for name in PACKAGES if name in found)


if __name__ == "__main__":
    main()
