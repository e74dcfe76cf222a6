"""Clients that ask without a pause, and the account of their requests and lines."""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.servers import Line, Server, eventually

CLIENTS = 4
#: Before something happens to the server this many requests have been answered, and after it.
WARM = 40
#: What clients ask for, in turn, when a test doesn't say.
PATHS = ("/ok/", "/takes/?s=0.01", "/ok/", "/takes/?s=0.03")
#: Gunicorn's threads give up on a connection that says nothing for so long (`DEFAULT_WORKER_DATA_TIMEOUT`),
#: or for little longer.
SILENCE_S = 5.0
_loads = itertools.count(1)


@dataclass(repr=False)
class Load:
    """Clients of one server, each asking for one thing after the other, and what became of it."""

    server: Server
    name: str
    paths: tuple[str, ...] = PATHS
    answered: set[str] = field(default_factory=set)
    #: Sent, but the connection broke before there was an answer.
    broken: set[str] = field(default_factory=set)
    #: What became of each broken one, for messages.
    troubles: dict[str, str] = field(default_factory=dict)
    #: Refused connections, and those that were given up before anything was sent: these are not requests.
    refused: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def wait_for_answers(self, count: int = WARM) -> None:
        """Return when the server has answered `count` more requests than now."""
        enough = len(self.answered) + count
        eventually(
            lambda: len(self.answered) >= enough,
            lambda: f"{len(self.answered)} answers instead of {enough}\n{said_by(self.server)}",
        )

    def start(self, clients: int) -> None:
        """Start that many clients."""
        for number in range(clients):
            thread = threading.Thread(target=self.ask_on, args=(number,), name=f"client-{number}")
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let the clients finish what they have begun, and wait for them."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def ask_on(self, client: int) -> None:
        """Ask until stopped; the body of one client's thread."""
        for number, path in zip(itertools.count(), itertools.cycle(self.paths), strict=False):
            if self._is_over.is_set():
                return
            self._ask(path, f"{self.name}-{client}-{number}")

    def _ask(self, path: str, request_id: str) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n"
        try:
            connection = self.server.connect()
        except (ConnectionRefusedError, FileNotFoundError):
            self.refused += 1
            self._is_over.wait(0.01)  # the next attempt may find it back
            return
        connected = started = time.monotonic()
        with connection:
            received, trouble = b"", "closed"
            try:
                connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
                started = time.monotonic()
                while chunk := connection.recv(65536):
                    received += chunk
            except OSError as error:
                # A reset after the answer is none of the answer's business.
                trouble = repr(error)
        if received.startswith(b"HTTP/1.1 "):
            self.answered.add(request_id)
        elif started - connected > SILENCE_S:
            self.refused += 1  # this process had no CPU for so long
        else:
            after_s = time.monotonic() - started
            self.troubles[request_id] = f"{path}: {trouble} after {after_s:.3f} s"
            self.broken.add(request_id)

    def account(self, *, only_good: bool = True) -> collections.Counter[str]:
        """Return how many lines of each `event_type` there are, once the books balance.

        Each answered request has exactly one line. One whose connection broke has at most one: it may
        never have been accepted. No line is of a request that nobody sent.

        Args:
            only_good: whether every answer has to be a good one.
        """
        eventually(
            lambda: len(self._unsaid()) <= (0 if only_good else len(self._interrupted_heads())),
            lambda: f"answered without a line: {self._unsaid()}\n{said_by(self.server)}",
        )
        lines = self.lines()
        counts = collections.Counter(line["req_id"] for line in lines)
        twice = {request_id for request_id, count in counts.items() if count > 1}
        assert not twice, f"more than one line: {twice}\n{said_by(self.server)}"
        unknown = counts.keys() - self.answered - self.broken
        assert not unknown, f"lines of nothing that was asked: {unknown}"
        for line in lines:
            if only_good and line["req_id"] in self.answered:
                assert line["event_type"] == "request", line
                assert line["resp_status"] == "200", line
        return collections.Counter(line["event_type"] for line in lines)

    def lines(self) -> list[Line]:
        """Return the lines of what these clients sent, one for each request: `slow` comes on top."""
        return [
            line
            for line in self.server.lines()
            if line.get("req_id", "").startswith(f"{self.name}-") and line["event_type"] != "slow"
        ]

    def _interrupted_heads(self) -> list[Line]:
        """Return the lines of requests whose head was being read when their worker was told to quit.

        Gunicorn answers them with a 500. Their header fields were not read: `req_id` is one of ours.
        """
        return [
            line
            for line in self.server.lines()
            if line.get("exc_type") == "SystemExit" and "req_host" not in line
        ]

    def _unsaid(self) -> set[str]:
        return self.answered - {line["req_id"] for line in self.lines()}


@contextlib.contextmanager
def under_load(
    server: Server, paths: tuple[str, ...] = PATHS, clients: int = CLIENTS
) -> Iterator[Load]:
    """Keep the server busy until left, and be sure that it is when entered."""
    load = Load(server, f"load{next(_loads)}", paths)
    load.start(clients)
    try:
        load.wait_for_answers()
        yield load
    finally:
        load.stop()


def said_by(server: Server) -> str:
    """Return what Gunicorn said and the last lines, for a message about a server that was busy."""
    lines = server.stdout.read_text(errors="replace").splitlines()[-5:]
    return "\n".join([*lines, server.stderr.read_text(errors="replace")])
