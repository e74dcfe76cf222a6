"""Shows one canonical line for every kind of request, from a real Gunicorn in front of the shop."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from tour.lines import Lines, endings, match, problems
from tour.screen import BOLD, Screen
from tour.visitor import Visitor, visit_everything

DEMO = Path(__file__).resolve().parent
COMMAND = ["opentelemetry-instrument", "gunicorn", "demo_shop.wsgi", "--chdir", "demo"]
OPTIONS = ["--bind", "127.0.0.1:0", "--workers", "2"]
LISTENING = re.compile(r"Listening at: http://([\d.]+):(\d+)")

START_S = 15.0
STOP_S = 15.0
LOG_LINES_SHOWN = 100

HINT = """\
These are lines as `otel-canonical tail` shows them; `make demo | cat` shows them as they are written.
Next, by hand, in the directory above demo/:
    python demo/manage.py migrate && python demo/manage.py seed_catalog
    opentelemetry-instrument gunicorn demo_shop.wsgi --chdir demo
To send the same events to an OpenTelemetry Collector as well, set before the second line:
    export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318"""


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


def run(home: Path, log: Path, screen: Screen) -> int:
    """Return the number of problems; the requests and their lines have been shown."""
    screen.say("A fresh database for the shop ...")
    fill_database(home)
    screen.say("$ " + " ".join([*COMMAND, *OPTIONS]))
    with server(home, log) as process:
        assert process.stdout is not None  # it is a pipe
        lines = Lines(process.stdout)
        visitor = Visitor(*wait_until_listening(process, log))
        visit_everything(visitor)
        lines.wait_for_endings(len(visitor.sent))
    received = lines.close()  # only now: a line too many may come late
    unclaimed = match(visitor.sent, received)
    for number, one in enumerate(visitor.sent, 1):
        screen.show(number, one)
    found = problems(visitor.sent, unclaimed)
    ended = len(endings(received))
    screen.say()
    screen.say(
        screen.paint(BOLD, f"{len(visitor.sent)} requests sent, {ended} lines received")
        + f", and {len(received) - ended} beside them (partial failures, slow requests)"
    )
    for problem in found:
        screen.say(f"PROBLEM: {problem}")
    if not found:
        for hint in HINT.splitlines():
            screen.say(hint)
    return len(found)


def main() -> int:
    """Run the demo; 0 when every request had its one line."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, leave)  # so that the server is stopped on the way out
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with tempfile.TemporaryDirectory(prefix="demo-shop-") as directory:
        home = Path(directory)
        log = home / "gunicorn.log"
        try:
            failed = run(home, log, Screen()) > 0
        except (
            DemoFailed,
            OSError,
            http.client.HTTPException,
            subprocess.SubprocessError,
        ) as error:
            print(f"The demo failed: {error or type(error).__name__}", file=sys.stderr)
            failed = True
        if failed and log.exists():
            last = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            print("The server's log:", *last, sep="\n    ", file=sys.stderr)
    return 1 if failed else 0


def leave(number: int, _frame: object) -> NoReturn:
    """End as a shell would report it, but through every `finally`."""
    sys.exit(128 + number)


@contextlib.contextmanager
def server(home: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run Gunicorn in a process group of its own; nothing of the group is left afterwards."""
    scripts = Path(sys.executable).parent
    search = os.pathsep.join((str(scripts), os.environ.get("PATH", os.defpath)))
    if not shutil.which(COMMAND[0], path=search):
        raise DemoFailed(f"{COMMAND[0]} is not installed here: pip install otel-canonical")
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*COMMAND, *OPTIONS],
            cwd=DEMO.parent,
            env={**environment(home), "PATH": search},
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


def environment(home: Path) -> dict[str, str]:
    """Return our own environment without what would make this another demo."""
    ours = ("OTEL_PYTHON_CANONICAL_", "DEMO_", "DJANGO_SETTINGS_MODULE", "GUNICORN_CMD_ARGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # Gunicorn keeps a control socket below HOME; with a HOME of its own it meets no other server.
    return {**kept, "DEMO_DATABASE": str(home / "demo.sqlite3"), "HOME": str(home)}


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask Gunicorn to stop, then kill what is left of its process group."""
    process.terminate()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    finally:  # also when a second signal ends our waiting
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_listening(process: subprocess.Popen[bytes], log: Path) -> tuple[str, int]:
    """Return host and port as soon as Gunicorn has logged them."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        has_exited = process.poll() is not None  # asked first: what it logged last still counts
        if found := LISTENING.search(log.read_text(errors="replace")):
            return found[1], int(found[2])
        if has_exited:
            raise DemoFailed(f"Gunicorn ended with code {process.returncode} before it listened")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    raise DemoFailed(f"Gunicorn did not listen within {START_S:g} s")


def fill_database(home: Path) -> None:
    """Make a fresh database with the shop's goods."""
    for command in ("migrate", "seed_catalog"):
        subprocess.run(
            [sys.executable, str(DEMO / "manage.py"), command, "--verbosity=0"],
            env=environment(home),
            check=True,
        )


if __name__ == "__main__":
    sys.exit(main())
