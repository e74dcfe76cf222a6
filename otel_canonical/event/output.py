"""The one way out for lines: each is written whole, in one `os.write`, and never waits for long.

Lives in every process that writes lines. A full or broken output costs lines, never a request: what could
not be written is counted and reported. How a write is kept from waiting: `descriptors`.
"""

from __future__ import annotations

import errno
import os
import stat

from otel_canonical.event.log_files import OwnDescriptor
from otel_canonical.event.patience import Patience
from otel_canonical.event.targets import open_file, open_target
from otel_canonical.event.torn_lines import mark_of, unshared_mark
from otel_canonical.internal_errors import report
from otel_canonical.pool.slots import CLOSING, Slot

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LineOutput:
    """Where lines go: a standard stream, or a file that can be reopened after a rotation.

    Args:
        target: `stdout` or `-`, `stderr`, or a path; `/dev/stdout` and its like are the streams.
        owner: (uid, gid) that a file made here shall belong to, for a later reopening by a process
            that has dropped its privileges; None leaves it.
    """

    def __init__(self, target: str, owner: tuple[int, int] | None = None) -> None:
        self._owner = owner
        opened = open_target(target, owner)
        #: `stdout`, `stderr` or the path.
        self.target = opened.name
        self._path, self._source, self._outlet = opened.path, opened.source, opened.outlet
        self._fd, self._write = opened.outlet.fd, opened.outlet.write
        self._look_at_file()
        #: How long a full output may hold this process up.
        self.patience = Patience()
        #: Whether it stands in for an output that the operator wants and that can't be opened.
        self.is_substitute = False
        self.written = 0
        self.dropped = 0

    def write(self, line: bytes, slot: Slot | None = None) -> bool:
        """Write one line, given with its newline. Give it up if the output is broken, or full for long.

        Args:
            line: what to write.
            slot: of the request that the line ends. It is marked right before the write, so that nobody
                else writes a line of a worker that is killed behind it.

        Returns:
            Whether all of it was written.
        """
        mark, torn = self._mark, None
        if mark.state[0] != mark.whole_state:
            torn = mark.last_tear()
            if mark.is_torn():
                line = b"\n" + line
        if slot is not None:
            # No call stands between this and the write: no other thread may run first. With some busy
            # threads it would be a while until this one is on again, and a kill meanwhile costs the line.
            slot.memory[slot.state_at] = CLOSING
        try:
            count = self._write(self._fd, line)
        except BlockingIOError:
            count = 0
        except OSError as error:
            if error.errno in _DISK_IS_FULL:
                # Another process may have torn a line this moment and not have marked it yet.
                mark.tear()
            self._drop(error)
            return False
        if count != len(line) and not self._write_rest(line, count):
            return False
        if torn is not None:
            mark.end(torn)
        self.patience.is_full = False
        self.written += 1
        return True

    def reopen(self) -> None:
        """Open the file anew by its name, as `logrotate` expects after SIGUSR1."""
        if self._path is not None:
            try:
                fresh = open_file(self._path, self._owner)
            except (OSError, OwnDescriptor) as error:
                report(f"reopening {self._path}; lines still go to the old file", error)
                return
            # The old number keeps its meaning: another thread may be about to write to it.
            os.dup2(fresh.fd, self._fd, inheritable=False)
            fresh.close()
        # With `--capture-output` Gunicorn has put another file in a stream's place.
        self._look_at_file()

    def close(self) -> None:
        """Give up what was opened here; the standard streams stay as they are."""
        self._outlet.close()

    def is_null(self) -> bool:
        """Return whether all that is written is thrown away."""
        return self._fd >= 0 and os.fstat(self._fd).st_rdev == os.stat(os.devnull).st_rdev

    def is_closed(self) -> bool:
        """Return whether lines go nowhere, because the server was started with this stream closed."""
        return self._fd < 0

    def described(self) -> str:
        """Return where lines go, for people."""
        return f"{self.target} (closed: they go nowhere)" if self.is_closed() else self.target

    def is_same_file(self, fd: int) -> bool:
        """Return whether what is written to a descriptor and our lines go to the same file."""
        return self._source >= 0 and os.path.sameopenfile(self._source, fd)

    def tear(self) -> int:
        """Note that something else has left the output in the middle of a line; return this tear's number."""
        return self._mark.tear()

    def end_line(self, torn: int) -> None:
        """Note that something else has ended the line of that tear."""
        self._mark.end(torn)

    def _look_at_file(self) -> None:
        is_open = self._fd >= 0
        self._mark = mark_of(self._fd) if is_open else unshared_mark()
        self._is_file = is_open and stat.S_ISREG(os.fstat(self._fd).st_mode)

    def _write_rest(self, line: bytes, count: int) -> bool:
        """Write what the output has not taken of a line, as far as there is patience."""
        if self._fd < 0:
            self.dropped += 1
            return False
        mark, torn = self._mark, None
        try:
            while count < len(line):
                if count:
                    torn = mark.tear()
                if self._is_file:
                    # Another process could write between a look at the mark and the rest.
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.patience.wait_for_room(self._fd)
                if torn is not None and not mark.is_untouched_since(torn):
                    raise OSError("another process has written behind a part of a line")
                count += self._write(self._fd, line[count:])
        except OSError as error:
            self._drop(error)
            return False
        if torn is not None:
            mark.end(torn)
        return True

    def _drop(self, error: OSError) -> None:
        self.dropped += 1
        report(f"writing a line to {self.target}", error)
