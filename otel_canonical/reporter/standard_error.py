"""The reporter's standard error, which never waits for its reader.

It is the arbiter's. If its reader hangs, the reporter must still export, and end with the arbiter.
"""

from __future__ import annotations

import io
import sys

from otel_canonical.process import descriptors


class UnblockedText(io.TextIOBase):
    """A text stream to a descriptor: lines that it does not take at once are given up.

    Args:
        fd: the descriptor.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._pending = ""

    def write(self, text: str) -> int:
        """Write the lines that end in this text; the rest waits for its end."""
        lines, newline, self._pending = (self._pending + text).rpartition("\n")
        if newline:
            self._write(lines + newline)
        return len(text)

    def flush(self) -> None:
        """Write what is left of a line."""
        pending, self._pending = self._pending, ""
        if pending:
            self._write(pending)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def _write(self, text: str) -> None:
        descriptors.write_text(self._fd, text.encode("utf-8", "backslashreplace"))


def never_wait() -> None:
    """Have everything that this process says on standard error written without waiting."""
    if sys.stderr is not None:
        sys.stderr = UnblockedText(2)
