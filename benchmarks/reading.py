"""Times the reading commands on a million lines: `reading.py [--lines 1000000]`.

Each command runs in a process of its own, of which wall time, CPU time and the largest resident memory
are told. The file is made once and kept in the system's directory for temporary files.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.make_lines import lines

COMMAND = str(Path(sys.executable).parent / "otel-canonical")
QUESTION = "SELECT req_route, count(*), quantile_cont(resp_time, 0.95) FROM events GROUP BY ALL"


def main() -> None:
    """Run the commands and print a table."""
    parser = argparse.ArgumentParser(description="Time the reading commands.")
    parser.add_argument("--lines", type=int, default=1_000_000)
    options = parser.parse_args()
    path = Path(tempfile.gettempdir(), f"otel-canonical-{options.lines}.log")
    if not path.exists():
        print(f"making {options.lines:,} lines ...", flush=True)
        with path.open("w") as file:
            file.writelines(lines(options.lines))
    print(
        f"{options.lines:,} lines, {path.stat().st_size / 1e6:,.0f} MB, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as directory:
        page = str(Path(directory, "report.html"))
        for arguments in (
            ["report", str(path)],
            ["report", "--html", page, str(path)],
            ["query", QUESTION, str(path)],
        ):
            measure(arguments)


def measure(arguments: list[str]) -> None:
    """Run one command and print what it took."""
    started = time.monotonic()
    process = subprocess.Popen([COMMAND, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    print(
        f"{arguments[0]:7} {wall_s:6.1f} s wall {cpu_s:6.1f} s CPU {usage.ru_maxrss / 1024:6.0f} MiB"
        f"{'' if process.returncode == 0 else f'  exit code {process.returncode}'}",
        flush=True,
    )


if __name__ == "__main__":
    main()
