"""Chaos: clients that behave badly, signals to every process of a pool, and the account of both.

What entered the application is told by the application (tests/server/programs/entered.py), what was
answered by the clients, what was written by the lines. The three are joined by `X-Request-ID`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import children_of, is_alive, is_reporter, processes_of
from tests.support.servers import PATIENCE_S, Line, Server, eventually

Kind = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

#: Whether a connection is closed with a reset: `SO_LINGER` with a time of zero.
RESET = struct.pack("ii", 1, 0)
#: Events that are no ending of a request.
NO_ENDING = ("slow", "slow_query", "pool")


def request(path: str, request_id: str, *, close: bool = True, body: int = 0) -> bytes:
    """Return the bytes of a request; a body is promised, not added."""
    method = "POST" if body else "GET"
    fields = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"X-Request-ID: {request_id}",
        *([f"Content-Length: {body}"] if body else []),
        *(["Connection: close"] if close else []),
    ]
    return "\r\n".join([*fields, "", ""]).encode()


class Clients(threading.Thread):
    """Clients of one server, in one event loop: some pipeline, some reset, some take what they get."""

    def __init__(self, address: tuple[str, int], count: int, seed: int) -> None:
        """Remember where to ask.

        Args:
            address: of the server.
            count: how many ask at the same time.
            seed: of their choices.
        """
        super().__init__(name="clients")
        self.address = address
        self.count = count
        self.random = random.Random(seed)
        self.is_over = threading.Event()
        #: Requests whose whole answer came, with its status.
        self.answered: dict[str, int] = {}
        #: All that was sent, in whole or in part.
        self.asked: set[str] = set()
        self._numbers = itertools.count(1)

    def run(self) -> None:
        """Ask until `is_over`."""
        asyncio.run(self._ask_all())

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._ask_on() for _ in range(self.count)))

    async def _ask_on(self) -> None:
        kinds = [self._one, self._one, self._one, self._pipelined, self._reset, self._half_a_body]
        broken = (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError)
        while not self.is_over.is_set():
            with contextlib.suppress(*broken):
                await asyncio.wait_for(self._once(self.random.choice(kinds)), PATIENCE_S)
                continue
            await asyncio.sleep(0.02)  # refused, or reset

    async def _once(self, kind: Kind) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            await kind(reader, writer)
        finally:
            writer.close()

    def _new(self) -> str:
        request_id = f"chaos-{next(self._numbers)}"
        self.asked.add(request_id)
        return request_id

    def _path(self) -> str:
        seconds = self.random.choice([0, 0.005, 0.02, 0.1])
        return f"/{self.random.choice(['takes', 'takes', 'streams'])}/?s={seconds}"

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_id = self._new()
        writer.write(request(self._path(), request_id))
        await writer.drain()
        await self._note_answer(reader, request_id)

    async def _pipelined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ids = [self._new() for _ in range(3)]
        writer.write(b"".join(request(self._path(), one, close=one == ids[-1]) for one in ids))
        await writer.drain()
        for request_id in ids:
            await self._note_answer(reader, request_id)

    async def _reset(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request(self._path(), self._new()))
        await writer.drain()
        await asyncio.sleep(self.random.random() * 0.05)
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    async def _half_a_body(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request_id = self._new()
        writer.write(request("/reads/", request_id, body=2000) + b"x" * 1000)
        await writer.drain()
        await asyncio.sleep(self.random.random() * 0.05)
        if self.random.random() < 0.5:
            writer.write(b"x" * 1000)
            await self._note_answer(reader, request_id)

    async def _note_answer(self, reader: asyncio.StreamReader, request_id: str) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            while (size := int(await reader.readuntil(b"\n"), 16)) > 0:
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        elif b"content-length: " in head:
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        else:
            return  # ends with the connection: whether it is whole cannot be told
        self.answered[request_id] = int(head.split(None, 2)[1])


@dataclass
class Tormentor:
    """What happens to the processes of a pool, at random."""

    server: Server
    directory: Path
    random: random.Random
    done: collections.Counter[str] = field(default_factory=collections.Counter)
    #: What was sent to each process.
    sent: dict[int, list[str]] = field(default_factory=lambda: collections.defaultdict(list))
    _arbiter: int = 0

    def __post_init__(self) -> None:
        self._arbiter = self.server.pid

    def go_on(self, seconds: float, is_enough: Callable[[], bool]) -> None:
        """Do something every now and then: at least for so long, and until it is enough.

        Args:
            seconds: the least time.
            is_enough: whether all has been seen; a busy machine may need longer for it.

        Raises:
            AssertionError: it wasn't enough in good time.
        """
        deeds: list[Callable[[], None]] = [
            *(self._kill_worker(name) for name in ("KILL", "SEGV", "ABRT", "TERM", "QUIT")),
            *(self._tell_arbiter(name) for name in ("HUP", "TTIN", "TTOU")),
            *(self._freeze(which) for which in ("worker", "arbiter", "reporter")),
            self._kill_reporter,
            self._upgrade,
        ]
        over = time.monotonic() + seconds
        last = over + PATIENCE_S
        while time.monotonic() < over or not is_enough():
            assert time.monotonic() < last, f"{dict(self.done)}\n{self.server.report()}"
            with contextlib.suppress(ProcessLookupError):
                self.random.choice(deeds)()
            time.sleep(0.1 + 0.3 * self.random.random())  # the moment of the next is what is random

    def workers(self) -> list[int]:
        """Return the workers of the arbiter that is in charge."""
        return [pid for pid in children_of(self._arbiter) if not is_reporter(pid)]

    def calm_down(self) -> None:
        """End the pool as an operator does, and wait until all of it has left."""
        for pid in self._arbiters():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        eventually(
            lambda: not processes_of(self.directory),
            lambda: (
                f"left: {processes_of(self.directory)}\n{self.server.stderr.read_text()[-5000:]}"
            ),
        )

    def _arbiters(self) -> list[int]:
        mine = processes_of(self.directory)
        return [pid for pid in mine if any(child in mine for child in children_of(pid))]

    def _some_worker(self) -> int:
        workers = self.workers()
        if not workers:
            raise ProcessLookupError
        return self.random.choice(workers)

    def _kill_worker(self, name: str) -> Callable[[], None]:
        def kill() -> None:
            pid = self._some_worker()
            os.kill(pid, signal.Signals[f"SIG{name}"])
            self.done[f"{name} to worker"] += 1
            self.sent[pid].append(name)

        return kill

    def _tell_arbiter(self, name: str) -> Callable[[], None]:
        def tell() -> None:
            if (name == "TTOU" and len(self.workers()) < 2) or (
                name == "TTIN" and self._is_large()
            ):
                return
            os.kill(self._arbiter, signal.Signals[f"SIG{name}"])
            self.done[f"{name} to arbiter"] += 1

        return tell

    def _is_large(self) -> bool:
        return len(self.workers()) > 4

    def _reporter(self) -> int:
        found = [pid for pid in children_of(self._arbiter) if is_reporter(pid)]
        if not found:
            raise ProcessLookupError
        return found[0]

    def _freeze(self, which: str) -> Callable[[], None]:
        def freeze() -> None:
            pids = {
                "worker": self._some_worker,
                "arbiter": lambda: self._arbiter,
                "reporter": self._reporter,
            }
            pid = pids[which]()
            os.kill(pid, signal.SIGSTOP)
            try:
                time.sleep(0.5 * self.random.random())
            finally:
                os.kill(pid, signal.SIGCONT)
            self.done[f"STOP and CONT of {which}"] += 1
            self.sent[pid].append("STOP and CONT")

        return freeze

    def _kill_reporter(self) -> None:
        os.kill(self._reporter(), signal.SIGKILL)
        self.done["KILL to reporter"] += 1

    def _upgrade(self) -> None:
        """USR2, TERM to the old arbiter once the new one has a worker; the new one is then in charge."""
        old = self._arbiter
        before = set(self._arbiters())

        def new_arbiter() -> int | None:
            for pid in set(self._arbiters()) - before:
                if any(not is_reporter(child) for child in children_of(pid)):
                    return pid
            return None

        os.kill(old, signal.SIGUSR2)
        self._arbiter = eventually(new_arbiter, self.server.report) or old
        os.kill(old, signal.SIGTERM)
        self.done["USR2 to arbiter"] += 1
        eventually(lambda: not is_alive(old), lambda: f"{old} is still there")
        # It ignores the next USR2 until it has seen that its parent has left.
        promoted = f"[{self._arbiter}] [INFO] Master has been promoted."
        eventually(lambda: promoted in self.server.stderr.read_text(), self.server.report)


@dataclass
class Account:
    """What entered, what was written, and where the two differ."""

    #: The process that each request entered, by the request's id.
    entered: dict[str, int]
    lines: dict[str, list[Line]]
    answered: dict[str, int]

    @classmethod
    def of(cls, server: Server, entered: Path, clients: Clients) -> Account:
        """Read the account of a run that is over."""
        by_id: dict[str, list[Line]] = collections.defaultdict(list)
        for line in server.lines():
            if line["event_type"] not in NO_ENDING:
                by_id[line["req_id"]].append(line)
        notes = [line.split() for line in entered.read_text().splitlines()]
        return cls({one: int(pid) for one, pid in notes}, dict(by_id), clients.answered)

    @property
    def missing(self) -> set[str]:
        """Requests that entered and have no line."""
        return self.entered.keys() - self.lines.keys()

    @property
    def doubled(self) -> set[str]:
        """Requests with more than one line."""
        return {one for one, lines in self.lines.items() if len(lines) > 1}

    @property
    def answered_but_lost(self) -> list[Line]:
        """Lines of `lost` requests whose whole answer arrived.

        A WSGI worker may be killed behind the last byte and before its request is closed. An aborted one
        is a `timeout` that may go on and answer: not these.
        """
        return [
            line
            for request_id, status in self.answered.items()
            for line in self.lines.get(request_id, ())
            if status == 200 and line["event_type"] == "lost"
        ]

    @property
    def wrong_status(self) -> list[Line]:
        """Lines with another status than the one that the client got."""
        return [
            line
            for request_id, status in self.answered.items()
            for line in self.lines.get(request_id, ())
            if line.get("resp_status", str(status)) != str(status)
        ]

    def unexplained(self, tormentor: Tormentor) -> str:
        """Return what is known of each request that differs."""
        return "\n".join(
            [
                *(
                    f"missing: {one}, worker {self.entered[one]} {tormentor.sent[self.entered[one]]}"
                    for one in self.missing
                ),
                *(
                    f"{line} {tormentor.sent[int(line['g_pid'])]}"
                    for line in self.answered_but_lost
                ),
            ]
        )

    def table(self) -> str:
        """Return the counts as a row."""
        kinds = collections.Counter(
            line["event_type"] for one in self.lines.values() for line in one
        )
        return (
            f"entered {len(self.entered)}, lines {sum(map(len, self.lines.values()))} {dict(kinds)}, "
            f"answered {len(self.answered)}, missing {len(self.missing)}, doubled {len(self.doubled)}, "
            f"wrong status {len(self.wrong_status)}, answered but lost {len(self.answered_but_lost)}"
        )
