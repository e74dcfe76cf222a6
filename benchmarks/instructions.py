"""User-space instructions that a request costs its worker: a number that doesn't drift with the machine.

Run `python benchmarks/instructions.py [--only ROW,ROW] [--paths PATH,PATH]`; needs valgrind. Each row is
measured twice, with few and with many requests; the difference, divided by how many were more, is what one
request costs. What the worker does between requests, such as exporting, is in it: one flush more or less
moves a row that exports by some percent. Instructions of the kernel are not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import sys
import tempfile
from pathlib import Path

from client import send_requests
from environments import prepare_environments
from machine import describe_machine
from rows import Row, choose_rows
from servers import PATIENCE_S, ServerError, create_database, start_server
from sink import Sink

ROWS = (
    *("bare", "access-log", "ours", "ours-sqlite3", "ours-otlp-100-logs-0", "ours-otlp-100"),
    *("ours-otlp-1", "plain-otel-100"),
)
PATHS = ("/ok/", "/queries/10/")
FEW, MANY = 60, 260

VALGRIND = ("valgrind", "--trace-children=yes", "--tool=cachegrind", "--cache-sim=no")
SUMMARY = re.compile(r"^summary: (\d+)", re.MULTILINE)

#: A program under valgrind is some fifty times slower, and starting one is what takes longest.
SLOWER = 60
PATIENT_WORKERS = ("--timeout", "900", "--graceful-timeout", "300")


@dataclasses.dataclass(frozen=True, slots=True)
class CountedRow(Row):
    """A row whose processes run under valgrind."""

    counts: str = ""

    def command(self) -> list[str]:
        """Return the row's own command, below valgrind."""
        command = Row.command(self)
        command[-1:] = [*PATIENT_WORKERS, command[-1]]
        program = shutil.which(command[0], path=self.variables["PATH"]) or command[0]
        # The interpreter of the `#!` line has to be named: valgrind starts programs only.
        python = str(Path(program).parent / "python")
        return [*VALGRIND, f"--cachegrind-out-file={self.counts}", python, program, *command[1:]]


def read_options() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="ROW,ROW", default=",".join(ROWS), help="%(default)s")
    parser.add_argument("--paths", metavar="PATH,PATH", default=",".join(PATHS))
    parser.add_argument("--venv", type=Path, help="use this environment for every row")
    return parser.parse_args()


def main() -> None:
    """Prepare, measure, print."""
    options = read_options()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: apt-get install valgrind")
    rows, paths = choose_rows(tuple(options.only.split(","))), options.paths.split(",")
    if options.venv:
        environments = {row.environment: options.venv.absolute() for row in rows}
    else:
        environments = prepare_environments({row.environment for row in rows})
    print(describe_machine())
    with tempfile.TemporaryDirectory(prefix="instructions-") as name, Sink() as sink:
        database = Path(name) / "site.sqlite3"
        create_database(next(iter(environments.values())), database)
        for path in paths:
            bare = 0.0
            for row in rows:
                environment = environments[row.environment]
                few, many = (
                    count_instructions(row, environment, path, count, database, sink)
                    for count in (FEW, MANY)
                )
                cost = (many - few) / (MANY - FEW)
                bare = bare or cost
                print(
                    f"{path:15} {row.name:22} {cost / 1e3:10,.0f} k {(cost - bare) / 1e3:+10,.0f} k"
                )
                sys.stdout.flush()


def count_instructions(
    row: Row, environment: Path, path: str, requests: int, database: Path, sink: Sink
) -> int:
    """Return the instructions of the row's worker over its whole life."""
    with tempfile.TemporaryDirectory(prefix="counted-") as name:
        home = Path(name)
        fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(Row)}
        fields["variables"] = {
            **row.variables,
            "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
            "PYTHONHASHSEED": "0",
        }
        counted = CountedRow(**fields, counts=str(home / "counts.%p"))
        with start_server(counted, environment, home / "server", database, sink.endpoint) as server:
            server.patience_s = SLOWER * PATIENCE_S
            server.wait_until_ready()
            send_requests(server.address, path, requests, patience_s=SLOWER * PATIENCE_S)
            worker = server.worker
        sink.take(row.name)
        counts = home / f"counts.{worker}"
        if not counts.exists() or not (found := SUMMARY.search(counts.read_text(errors="replace"))):
            raise ServerError(f"{row.name}: valgrind has left no counts of {worker}")
        return int(found[1])


if __name__ == "__main__":
    main()
