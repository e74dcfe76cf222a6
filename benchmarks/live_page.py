"""Instructions that a request on `/ok/` spends on the shared page, and what of it the commands have added.

Run `python benchmarks/live_page.py`; needs valgrind, and otel-canonical in this environment. Each write is
repeated under callgrind, a few times and many times; the difference, divided by the repetitions, is what
one costs without its call. Times play no part, whatever else the machine does.

`otel-canonical ps`, `top`, `stacks`, `ready` and `set` read a page that was there before them, for the lines
of lost requests and for `g_w_active`. They have added the look at whether something was switched, and the
status. `instructions.py --only ours --paths /ok/` counts what the whole line costs: pass it as `--line`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from machine import describe_machine

if TYPE_CHECKING:  # not where this file only starts valgrind
    from otel_canonical.pool.scoreboard import Scoreboard
    from otel_canonical.pool.slots import Slot

FEW, MANY = 500, 5500
TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
#: What a line of the row `ours` adds to `/ok/`, see README.md.
LINE = 160_000
#: As `ps` would show it.
REQUEST = ("4f" * 16, "", "", "", "GET", "localhost", "127.0.0.1", "/ok/")
ROUTE = ("ok/", "mysite.views.ok", "/ok/")


def nothing(page: Scoreboard, slot: Slot, times: int) -> None:
    """Repeat nothing."""
    for _ in range(times):
        pass


def switches(page: Scoreboard, slot: Slot, times: int) -> None:
    """Look whether something was switched, as `CanonicalLog.open` does."""

    class Log:
        generation = page.switches_generation
        seen = page.switches_generation[0]

    self = Log()
    for _ in range(times):
        if self.generation[0] != self.seen:
            raise AssertionError


def status(page: Scoreboard, slot: Slot, times: int) -> None:
    """Show the status, as the adapter of Gunicorn does."""

    class Scope:
        started_ns = slot.started_ns

    scope = Scope()
    scope.slot = slot  # type: ignore[attr-defined]
    for _ in range(times):
        taken: Slot = scope.slot  # type: ignore[attr-defined]
        if taken is not None and taken.started_ns == scope.started_ns:
            taken.quarters[taken.status_at] = 200


def open_and_close(page: Scoreboard, slot: Slot, times: int) -> None:
    """Show a request and free its slot."""
    for _ in range(times):
        slot.open(7, 1, 2, 0, REQUEST)
        slot.close(3)


def route(page: Scoreboard, slot: Slot, times: int) -> None:
    """Show the route, the view and the redacted path."""
    started_ns = slot.started_ns
    for _ in range(times):
        slot.write_route(started_ns, ROUTE)


def pool_state(page: Scoreboard, slot: Slot, times: int) -> None:
    """Read the pool for `g_w_active` and its like."""
    now_ns = time.monotonic_ns()
    for _ in range(times):
        page.pool_state(now_ns)


Part = Callable[["Scoreboard", "Slot", int], None]
#: What the commands have added, then what was there before.
COMMANDS: tuple[Part, ...] = (switches, status)
BEFORE: tuple[Part, ...] = (open_and_close, route, pool_state)


def repeat(name: str, times: int) -> None:
    """Repeat one part; runs under valgrind."""
    from otel_canonical.pool.scoreboard import Scoreboard

    page = Scoreboard(1, 1)
    block = page.take_block()
    slot = page.new_slot(block) if block is not None else None
    if slot is None:
        raise SystemExit("the page has no slot")
    slot.open(7, 1, 2, 0, REQUEST)
    part: Part = globals()[name]
    part(page, slot, times)


def instructions_of(part: Part, directory: Path) -> float:
    """Return the instructions of one repetition, the loop's own included."""
    totals = []
    for times in (FEW, MANY):
        counts = directory / f"{part.__name__}.{times}"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}", sys.executable]
        subprocess.run(
            [*command, __file__, "--repeat", part.__name__, "--times", str(times)],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        found = TOTAL.search(counts.read_text(errors="replace"))
        if found is None:
            raise SystemExit(f"{counts} says nothing")
        totals.append(int(found[1]))
    return (totals[1] - totals[0]) / (MANY - FEW)


def main() -> None:
    """Count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--line", type=int, default=LINE, help="what the line costs; %(default)s")
    parser.add_argument("--repeat", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.repeat:
        repeat(options.repeat, options.times)
        return
    print(describe_machine())
    with tempfile.TemporaryDirectory(prefix="live-page-") as name:
        loop = instructions_of(nothing, Path(name))
        for title, parts in (("added by the commands", COMMANDS), ("the page before", BEFORE)):
            total = 0.0
            for part in parts:
                cost = instructions_of(part, Path(name)) - loop
                total += cost
                print(f"  {part.__name__:16} {cost:8,.0f}", flush=True)
            print(
                f"{title}: {total:,.0f}, {total / options.line:.2%} of the line's {options.line:,}"
            )


if __name__ == "__main__":
    main()
