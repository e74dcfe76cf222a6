"""Real Gunicorns for tests, on free ports: ready when the block begins, gone when it ends."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import TypeVar

from otel_canonical.event import logfmt
from tests.support.environments import (
    CHOICES_OF_DISTRO,
    INSTRUMENT,
    clean_environment,
    disabled_instrumentations,
    instrumented,
)
from tests.support.event_checks import check_line

T = TypeVar("T")

#: Of the Gunicorn that the tests start.
GUNICORN_VERSION = tuple(map(int, importlib.metadata.version("gunicorn").split(".")[:2]))
#: Only what fails takes it; a machine with many tests on it may take most of it.
PATIENCE_S = 60.0
#: Between two looks: what waits for long need not look often, and many tests run side by side.
LONGEST_PAUSE_S = 0.05
PROGRAMS = Path(__file__).parents[1] / "server" / "programs"
DEMO = Path(__file__).parents[2] / "demo"
GUNICORN = [str(Path(sys.executable).parent / "gunicorn")]
INSTRUMENTED = [*INSTRUMENT, *GUNICORN]

#: Said when our encoding of a record is not OpenTelemetry's.
UNKNOWN_FIELDS = "with fields that otel-canonical doesn't know"

Line = dict[str, str]

_asked = itertools.count(1)


def eventually(probe: Callable[[], T], describe: Callable[[], str]) -> T:
    """Return the first true answer of `probe`; fail with `describe()` when patience is over."""
    deadline = time.monotonic() + PATIENCE_S
    pause_s = 0.01
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(describe())
        time.sleep(pause_s)  # between two looks at a condition that has a deadline
        pause_s = min(1.2 * pause_s, LONGEST_PAUSE_S)


@dataclass
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """A running Gunicorn, its stdout (where lines go) and its stderr (where Gunicorn talks)."""

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    address: tuple[str, int] | str = ""
    seen: set[str] = field(default_factory=set)
    #: Lines that were held against the registry of fields.
    checked: set[str] = field(default_factory=set)
    name: str = ""
    #: Whether requests of a busy machine may have a `slow` line beside that of their end.
    reports_slow: bool = False

    @property
    def pid(self) -> int:
        """The arbiter's process id."""
        return self.process.pid

    def report(self) -> str:
        """Return all that the server said, for a failure message."""
        return (
            f"--- stdout\n{self.stdout.read_text(errors='replace')}\n"
            f"--- stderr\n{self.stderr.read_text(errors='replace')}"
        )

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match on stderr."""

        def probe() -> re.Match[str] | None:
            has_exited = self.process.poll() is not None  # asked first: its last words still count
            found = re.search(pattern, self.stderr.read_text(errors="replace"))
            if found is None and has_exited:
                raise AssertionError(f"the server left without {pattern!r}\n{self.report()}")
            return found

        return eventually(probe, lambda: f"{pattern!r} never appeared\n{self.report()}")

    def lines(self) -> list[Line]:
        """Return the canonical lines so far; a line still being written doesn't count."""
        text = self.stdout.read_bytes().decode()
        complete = text[: text.rfind("\n") + 1].splitlines()
        ours = [line for line in complete if line.startswith("ts=")]
        for line in ours:
            if line not in self.checked:
                check_line(line)
                self.checked.add(line)
        return [logfmt.parse(line) for line in ours]

    def wait_for_lines(self, count: int) -> list[Line]:
        """Return all lines once there are `count`; more is a failure, now or a request later."""
        eventually(
            lambda: len(self.lines()) >= count,
            lambda: f"{len(self.lines())} lines instead of {count}\n{self.report()}",
        )
        lines = self.lines()
        assert len(lines) == count, f"{len(lines)} lines instead of {count}\n{self.report()}"
        return lines

    def line_of(self, request_id: str) -> Line:
        """Return the one line of a request."""
        return self.lines_of(request_id, 1)[0]

    def ending_of(self, request_id: str) -> Line:
        """Return the one line of a request's end, beside which there may be `slow` ones."""

        def endings() -> list[Line]:
            return [
                line
                for line in self.lines()
                if line["req_id"] == request_id and line["event_type"] != "slow"
            ]

        found = eventually(endings, lambda: f"no end of {request_id}\n{self.report()}")
        assert len(found) == 1, f"{found}\n{self.report()}"
        return found[0]

    def lines_of(self, request_id: str, count: int) -> list[Line]:
        """Return the lines of a request once there are `count`; they may come after its answer."""

        def probe() -> list[Line]:
            return [line for line in self.lines() if line["req_id"] == request_id]

        def describe() -> str:
            return f"{len(probe())} lines of {request_id} instead of {count}\n{self.report()}"

        eventually(lambda: len(probe()) >= count, describe)
        found = probe()
        assert len(found) == count, describe()
        return found

    def connect(self) -> socket.socket:
        """Return a connected socket."""
        if isinstance(self.address, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(PATIENCE_S)
            connection.connect(self.address)
            return connection
        return socket.create_connection(self.address, timeout=PATIENCE_S)

    def get(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Answer:
        """Send one request; `X_Request_ID="a"` is the header `X-Request-ID`."""
        connection = HTTPConnection("localhost", timeout=PATIENCE_S)
        connection.sock = self.connect()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers={"Host": "localhost", **named})
            response: HTTPResponse = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[Answer, Line]:
        """Send one request under an id of its own; return the answer and that id's one line."""
        request_id = f"ask-{next(_asked)}"
        answer = self.get(path, method, X_Request_ID=request_id, **headers)
        return answer, (self.ending_of if self.reports_slow else self.line_of)(request_id)

    def send(self, request: bytes) -> bytes:
        """Send bytes as they are and return all that comes back."""
        with self.connect() as connection:
            connection.sendall(request)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := connection.recv(65536):
                    received += chunk
            return received

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        reporters = self.reporters()
        return [pid for pid in self.children() if pid not in reporters]

    def reporters(self) -> list[int]:
        """Return the process ids of the reporter; while it is being replaced there may be two."""
        return [pid for pid in self.children() if b"otel_canonical.reporter" in command_of(pid)]

    def children(self) -> list[int]:
        """Return the process ids of the arbiter's children."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in children]


def command_of(pid: int) -> bytes:
    """Return the command line of a process, nothing if it has left."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@contextlib.contextmanager
def gunicorn(
    app: str,
    directory: Path,
    *arguments: str,
    command: list[str] | None = None,
    cwd: Path = PROGRAMS,
    workers: int = 1,
    bind: str = "127.0.0.1:0",
    stdout: int | None = None,
    expects_report: bool = False,
    **environment: str,
) -> Iterator[Server]:
    """Start `opentelemetry-instrument gunicorn app` in an environment of its own.

    Without a `command` it is started from where `opentelemetry-instrument` has become Gunicorn:
    until then it takes a quarter of the CPU time in which a server starts.

    Args:
        app: what to serve, or the last argument of `command`.
        directory: where its output goes, and its HOME: Gunicorn keeps a control socket there.
        arguments: more of Gunicorn's.
        command: what to start instead of `opentelemetry-instrument gunicorn`.
        cwd: where to start it.
        workers: how many.
        bind: where to listen.
        stdout: a descriptor that is its standard output; without one it is a file in `directory`.
        expects_report: whether an error of ours is what the test provokes.
        environment: variables beside PATH and HOME; none is inherited.
    """
    out, err = directory / "stdout.log", directory / "stderr.log"
    variables = clean_environment(
        directory,
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled_instrumentations(app), **environment},
    )
    if command is None and CHOICES_OF_DISTRO.isdisjoint(environment):
        command, variables = GUNICORN, instrumented(variables, cwd)
    with out.open("wb") as lines, err.open("wb") as stderr:
        process = subprocess.Popen(
            [
                *(command or INSTRUMENTED),
                *("--bind", bind, "--workers", str(workers)),
                *arguments,
                *([app] if app else []),
            ],
            stdout=lines if stdout is None else stdout,
            stderr=stderr,
            cwd=cwd,
            env=variables,
            start_new_session=True,
        )
    is_slow_set = "OTEL_PYTHON_CANONICAL_SLOW_SECONDS" in environment
    server = Server(process, out, err, reports_slow=is_slow_set)
    try:
        # With --reuse-port it is the workers that listen, and Gunicorn names no address.
        listening = server.wait_for(
            r"Listening at: (?:https?://\[?([\d.:a-f]+)\]?:(\d+)|unix:([^\s,]+)| )"
        )
        host, port = listening[1], listening[2]
        if listening[0].endswith("  "):
            host, _, port = bind.rpartition(":")
        server.address = listening[3] or (host, int(port))
        for _ in range(workers):
            server.wait_for(rf"(?s)(Booting worker with pid: \d+.*){{{workers}}}")
        yield server
    finally:
        stop(process)
    text = err.read_text(errors="replace")
    assert expects_report or "otel-canonical failed" not in text, (
        f"an error of ours\n{server.report()}"
    )
    assert UNKNOWN_FIELDS not in text, f"encoded otherwise than by OpenTelemetry\n{server.report()}"


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server's process group: politely, then not."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
