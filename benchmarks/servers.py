"""The Gunicorns under measurement: started on a free port, waited for, stopped by their own pid."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from cpu import CpuTime, find_family, read_cpu
from rows import Row

SITE = Path(__file__).resolve().parent / "site"
PATIENCE_S = 30.0
LISTENING = re.compile(r"Listening at: http://([\d.]+):(\d+)")
BOOTING = re.compile(r"Booting worker with pid: (\d+)")
FOREIGN = ("OTEL_", "DJANGO_", "GUNICORN_", "PYTHON", "LOGFIRE_", "VIRTUAL_ENV")


class ServerError(Exception):
    """A server did not do its part; the message holds its log."""


class Server:
    """One running Gunicorn with one sync worker."""

    def __init__(self, row: Row, process: subprocess.Popen[bytes], home: Path) -> None:
        self.row, self.process, self.home = row, process, home
        self.lines, self.log = home / "stdout.log", home / "stderr.log"
        self.address = ("", 0)
        self.worker = 0
        self.family: frozenset[int] = frozenset()
        self.patience_s = PATIENCE_S

    def wait_until_ready(self) -> None:
        """Learn address and worker from the log; the kernel queues what comes before it listens."""
        host, port = self._wait_for(LISTENING).groups()
        self.address = (host, int(port))
        self.worker = int(self._wait_for(BOOTING)[1])

    def meet_family(self) -> None:
        """Note which processes are measured from here on."""
        self.family = find_family(self.process.pid)

    def check_family(self) -> None:
        """Fail if a process came or went: its time would be lost or would count from its birth."""
        if (now := find_family(self.process.pid)) != self.family:
            change = f"{sorted(self.family)} became {sorted(now)}"
            raise ServerError(f"{self.row.name}: its processes changed, {change}\n{self.tail()}")

    def read_cpu(self) -> CpuTime:
        """Return the clocks of the worker and of the whole family."""
        return read_cpu(self.worker, self.family)

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """Stop it as an operator would; what then still lives of its family is killed by pid."""
        family = find_family(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(self.patience_s)
        except subprocess.TimeoutExpired:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(PATIENCE_S)

    def _wait_for(self, pattern: re.Pattern[str]) -> re.Match[str]:
        deadline = time.monotonic() + self.patience_s
        while time.monotonic() < deadline:
            has_ended = self.process.poll() is not None  # asked first: its last words still count
            if found := pattern.search(self.log.read_text(errors="replace")):
                return found
            if has_ended:
                break
            time.sleep(0.01)
        raise ServerError(f"{self.row.name}: {pattern.pattern!r} never logged\n{self.tail()}")


@contextlib.contextmanager
def start_server(
    row: Row,
    environment: Path,
    home: Path,
    database: Path,
    otlp: str = "",
    core: int | None = None,
    stdout: int | None = None,
) -> Iterator[Server]:
    """Start the row's server, not yet ready, and stop it at the end.

    Its lines go to the file `lines`, or to the descriptor `stdout`, which is closed here.
    """
    home.mkdir(parents=True)
    variables = clean_variables(environment) | {
        "HOME": str(home),  # Gunicorn's control socket lives below it
        "BENCHMARK_DATABASE": str(database),
        **row.variables,
    }
    if row.exports:
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{otlp}/{row.name}"
        variables["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    with (home / "stdout.log").open("wb") as lines, (home / "stderr.log").open("wb") as log:
        process = subprocess.Popen(
            row.command(),
            cwd=SITE,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=lines if stdout is None else stdout,
            stderr=log,
            start_new_session=True,
        )
    if stdout is not None:
        os.close(stdout)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})  # at once: what it forks and starts inherits it
    server = Server(row, process, home)
    try:
        yield server
    finally:
        server.stop()


def clean_variables(environment: Path) -> dict[str, str]:
    """Return our variables as after `activate`, without any that could steer a row."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def create_database(environment: Path, database: Path) -> None:
    """Make the site's SQLite file with Django's own migrations."""
    subprocess.run(
        [environment / "bin/python", "-m", "django", "migrate", "--verbosity", "0"],
        cwd=SITE,
        env=clean_variables(environment)
        | {
            "BENCHMARK_DATABASE": str(database),
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "PYTHONPATH": str(SITE),
        },
        check=True,
        timeout=PATIENCE_S,
    )
