"""Files that grow, followed by name as `tail -F` does: also when they are rotated or cut short."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from otel_canonical.reading.problems import CommandFailed

#: How often a file that has nothing new is looked at again.
PAUSE_S = 0.2
_BLOCK_BYTES = 1 << 16


class FollowedFile:
    """One file by its name.

    Args:
        path: it may be missing for now.
        last: how many of the lines that are there already are read; None for all.
    """

    def __init__(self, path: str, last: int | None) -> None:
        self._path = path
        self._stream: BinaryIO | None = None
        self._partial = b""
        self._open(last)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that have come since the last call, of a file that took its place as well."""
        while True:
            if self._stream is not None:
                yield from self._read(self._stream)
            if not self._has_another():
                return
            if self._partial:  # what the former file ended with
                yield self._partial
                self._partial = b""
            self.close()
            self._open(None)
            if self._stream is None:
                return

    def close(self) -> None:
        """Let go of the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self, last: int | None) -> None:
        try:
            self._stream = open(self._path, "rb")  # noqa: SIM115 - closed by `close`
        except FileNotFoundError:
            return
        except OSError as error:
            raise CommandFailed(f"cannot read {self._path}: {error}") from error
        if last is not None:
            seek_last_lines(self._stream, last)

    def _read(self, stream: BinaryIO) -> Iterator[bytes]:
        while data := stream.read(_BLOCK_BYTES):
            *whole, self._partial = (self._partial + data).split(b"\n")
            for line in whole:
                yield line + b"\n"

    def _has_another(self) -> bool:
        """Return whether the name has another file by now, or the same one begun anew."""
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        if self._stream is None:
            return True
        ours = os.fstat(self._stream.fileno())
        if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
            return True
        return there.st_size < self._stream.tell()


def followed(paths: Sequence[str], last: int | None, pause: Callable[[], None]) -> Iterator[bytes]:
    """Yield the lines of files as they come, for ever.

    Args:
        paths: of the files.
        last: how many lines of each are shown at first.
        pause: called before each wait for more.
    """
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(contextlib.closing(FollowedFile(path, last))) for path in paths
        ]
        while True:
            for file in files:
                yield from file.lines()
            pause()
            time.sleep(PAUSE_S)


def seek_last_lines(stream: BinaryIO, count: int) -> None:
    """Move to where the last lines of a file begin."""
    end = position = stream.seek(0, os.SEEK_END)
    tail = b""
    # The newline that ends the last line begins none.
    while position > 0 and tail.count(b"\n", 0, max(len(tail) - 1, 0)) < count:
        step = min(_BLOCK_BYTES, position)
        position = stream.seek(position - step)
        tail = stream.read(step) + tail
    start = len(tail) - 1 if tail.endswith(b"\n") else len(tail)
    for _ in range(count):
        start = tail.rfind(b"\n", 0, max(start, 0))
        if start < 0:
            break
    stream.seek(end if count == 0 else end - len(tail) + max(start + 1, 0))
