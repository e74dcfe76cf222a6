"""Pipes, sockets and terminals for tests of what is written to them, also those of another user."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.servers import PATIENCE_S

T = TypeVar("T")

NOBODY = 65534

#: The kinds of descriptors that make a writer wait for their reader.
KINDS = ("pipe", "FIFO", "socket", "terminal")
#: Those that a process of another user can't open anew.
FOREIGN_KINDS = ("pipe", "FIFO", "terminal")

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root makes what belongs to another user"
)


@contextlib.contextmanager
def connected(kind: str, directory: Path, *, is_foreign: bool = False) -> Iterator[tuple[int, int]]:
    """Make a reader and a writer, both blocking; close them in the end.

    Args:
        kind: one of `KINDS`.
        directory: where a FIFO is made.
        is_foreign: whether it belongs to `NOBODY`, and only that user may open it.
    """
    if is_foreign:
        os.seteuid(NOBODY)
    try:
        reader, writer = _MAKERS[kind](directory)
    finally:
        if is_foreign:
            os.seteuid(0)
    if is_foreign:
        os.fchown(writer, NOBODY, -1)
        os.fchmod(writer, 0o600)
    try:
        yield reader, writer
    finally:
        for descriptor in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _fifo(directory: Path) -> tuple[int, int]:
    path = directory / "fifo"
    # Root makes it: the directory is not open to others.
    user = os.geteuid()
    if user:
        os.seteuid(0)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    os.set_blocking(reader, True)
    if user:
        os.seteuid(user)
    return reader, writer


def _socket(directory: Path) -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


_MAKERS: dict[str, Callable[[Path], tuple[int, int]]] = {
    "pipe": lambda directory: os.pipe(),
    "FIFO": _fifo,
    "socket": _socket,
    "terminal": lambda directory: pty.openpty(),
}


def without_override() -> list[str]:
    """Return the start of a command that root runs without the right to open everything."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise AssertionError("no setpriv here; apt-get install util-linux brings it")
    rights = "-dac_override,-dac_read_search"
    return [setpriv, f"--bounding-set={rights}", f"--inh-caps={rights}"]


def can_drop_rights() -> bool:
    """Return whether `without_override` works here."""
    done = subprocess.run([*without_override(), "true"], capture_output=True, check=False)
    return done.returncode == 0


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user without rights for a while; the process must be root."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def soon(do: Callable[[], T]) -> T:
    """Return what `do` returns; fail if it doesn't return."""
    outcome: list[T | BaseException] = []

    def run() -> None:
        try:
            outcome.append(do())
        except BaseException as error:  # noqa: BLE001  # raised again below
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(min(PATIENCE_S, 10))
    if not outcome:
        raise AssertionError("it waits")
    [found] = outcome
    if isinstance(found, BaseException):
        raise found
    return found


def read_now(reader: int) -> bytes:
    """Return all that is there to be read."""
    os.set_blocking(reader, False)
    watched = select.poll()
    watched.register(reader, select.POLLIN)
    # A thread of the kernel hands on what is written to a terminal, a moment later.
    wait_ms = 200 if os.isatty(reader) else 0
    received = b""
    with contextlib.suppress(BlockingIOError):
        while watched.poll(wait_ms) and (chunk := os.read(reader, 1 << 20)):
            received += chunk
    return received.replace(b"\r\n", b"\n")  # as terminals have it
