"""The way out: one event becomes one line, written in one `os.write`.

Lives in every process that writes events. A full or broken output costs lines, never a request: what
could not be written is counted and reported.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from otel_canonical.event import json_lines, line_length, logfmt
from otel_canonical.event.chosen_fields import LineFields
from otel_canonical.event.event import CanonicalEvent
from otel_canonical.event.fields import PROTECTED, FieldValue
from otel_canonical.internal_errors import report, report_caught
from otel_canonical.pool.counters import DROPPED, SHORTENED, Counts, no_counts
from otel_canonical.process_identity import own
from otel_canonical.settings import Settings, variable_of

#: How long a full pipe may hold a worker up before its line is given up.
PATIENCE_MS = 200

_STANDARD_OUTPUTS = {"stdout": 1, "stderr": 2}

Encode = Callable[[Iterable[tuple[str, FieldValue]]], str]
ENCODERS: dict[str, Encode] = {"logfmt": logfmt.encode, "json": json_lines.encode}


class LineOutput:
    """Where lines go: a standard stream, or a file that can be reopened after a rotation.

    Args:
        target: `stdout`, `stderr` or the path of a file.
        owner: (uid, gid) that a file made here shall belong to, for a later reopening by a process
            that has dropped its privileges; None leaves it.
    """

    def __init__(self, target: str, owner: tuple[int, int] | None = None) -> None:
        self.target = target
        self._owner = owner
        self._path: str | None = None if target in _STANDARD_OUTPUTS else os.path.abspath(target)
        self._fd = self._open()
        self._socket = _as_socket(self._fd)
        self._is_torn = False
        self._is_full = False
        self.written = 0
        self.dropped = 0

    def write(self, line: bytes) -> bool:
        """Write one line; give it up if the output is broken, or full for `PATIENCE_MS`.

        Returns:
            Whether all of it was written.
        """
        if self._is_torn:
            line = b"\n" + line
        try:
            # As `_send` does, without its call: this runs for every request.
            count = os.write(self._fd, line) if self._socket is None else self._send(line)
        except BlockingIOError:
            count = self._write_when_there_is_room(line)
        except OSError as error:
            self._drop(error)
            return False
        if count == len(line):
            self._is_torn = self._is_full = False
            self.written += 1
            return True
        return count > 0 and self._write_rest(line[count:])

    def reopen(self) -> None:
        """Open the file anew by its name, as `logrotate` expects after SIGUSR1."""
        if self._path is None:
            return
        try:
            fresh = self._open()
        except OSError as error:
            report(f"reopening {self._path}; lines still go to the old file", error)
            return
        # The old number keeps its meaning: another thread may be about to write to it.
        os.dup2(fresh, self._fd, inheritable=False)
        os.close(fresh)

    def close(self) -> None:
        """Give up what was opened here; the standard streams stay as they are."""
        if self._socket is not None:
            self._socket.close()
        if self._fd != _STANDARD_OUTPUTS.get(self.target):
            os.close(self._fd)

    def is_null(self) -> bool:
        """Return whether all that is written is thrown away."""
        return os.fstat(self._fd).st_rdev == os.stat(os.devnull).st_rdev

    def _open(self) -> int:
        if self._path is not None:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if self._owner is not None:
                with contextlib.suppress(OSError):
                    os.fchown(fd, *self._owner)
            return fd
        stream = _STANDARD_OUTPUTS[self.target]
        # A pipe whose reader hangs must not hang us. O_NONBLOCK on the stream itself would be seen
        # by the app and by every process that shares it; a description of our own is not. Files are
        # left alone: their offset is shared with whoever else writes there.
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(stream).st_mode):
                return os.open(
                    f"/proc/self/fd/{stream}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )
        return stream

    def _send(self, data: bytes) -> int:
        if self._socket is None:
            return os.write(self._fd, data)
        # A socket can't be opened anew, as a pipe can, so it is each call that is told not to wait.
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def _write_when_there_is_room(self, line: bytes) -> int:
        room = select.poll()
        room.register(self._fd, select.POLLOUT)
        try:
            # Only the first line waits: a reader that hangs must not hold up every request after it.
            if room.poll(0 if self._is_full else PATIENCE_MS):
                return self._send(line)
            self._is_full = True
            raise BlockingIOError("the output is full and nobody reads it")
        except OSError as error:
            self._drop(error)
            return 0

    def _write_rest(self, rest: bytes) -> bool:
        self._is_torn = True  # if no more is written, the next line must not continue this one
        try:
            if self._send(rest) < len(rest):
                raise OSError("the output took only a part of a line")
        except OSError as error:
            self._drop(error)
            return False
        self._is_torn = self._is_full = False
        self.written += 1
        return True

    def _drop(self, error: OSError) -> None:
        self.dropped += 1
        report(f"writing a line to {self.target}", error)


def _as_socket(fd: int) -> socket.socket | None:
    """Return `fd` as a socket if it is one: under systemd the standard streams are the journal's."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            return socket.socket(fileno=os.dup(fd))
    return None


class LineWriter:
    """Encodes events and writes each as one line of at most `max_bytes` bytes.

    Args:
        output: takes the lines.
        format_: one of `ENCODERS`.
        max_bytes: of a line, newline included.
        counts: where lines are counted, `counters.COUNTS`; a worker has its own on the scoreboard.
        fields: those of a line, if the operator has chosen some; see `LineFields`.
    """

    def __init__(
        self,
        output: LineOutput,
        format_: str,
        max_bytes: int,
        counts: Counts | None = None,
        fields: Sequence[str] = (),
    ) -> None:
        self.output = output
        self._encode = ENCODERS[format_]
        self._fields = LineFields(fields) if fields else None
        self._is_plain = format_ == "logfmt" and self._fields is None
        self._max_bytes = max_bytes
        self.counts = counts if counts is not None else no_counts()

    def emit(self, event: CanonicalEvent) -> None:
        """Write the event's line."""
        self.write(event, self.encode(event))

    def encode(self, event: CanonicalEvent) -> bytes:
        """Return the event's line, shortened if it is too long."""
        try:
            text = event.as_logfmt() if self._is_plain else self._encode(self._pairs(event))
        except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
            # A value of a type that a row's quick way can't write.
            report_caught("encoding an event", error)
            text = self._encode(self._pairs(event))
        line = (text + "\n").encode("utf-8", "replace")
        if len(line) > self._max_bytes:
            line, shortened = line_length.fit(
                self._pairs(event), self._encode, self._max_bytes, PROTECTED
            )
            self.counts[SHORTENED] += shortened
        return line

    def _pairs(self, event: CanonicalEvent) -> Sequence[tuple[str, FieldValue]]:
        return event.pairs if self._fields is None else self._fields.chosen(event.pairs)

    def write(self, event: CanonicalEvent, line: bytes) -> None:
        """Write a line and count it; in a fork of this process do nothing.

        Args:
            event: the event that the line shows.
            line: as `encode` has returned it.
        """
        if not own[0]:
            return
        counts = self.counts
        counts[event.event_type.number] += 1
        if not self.output.write(line):
            counts[DROPPED] += 1


def open_line_writer(
    settings: Settings, cfg: Any, counts: Counts, warn: Callable[[str], None]
) -> LineWriter:
    """Return the way out that the operator wants; one that can't be had is said, and not a failure.

    Args:
        settings: the operator's choice.
        cfg: Gunicorn's configuration.
        counts: where lines are counted.
        warn: told what is wrong with a setting.
    """
    owner = (cfg.uid, cfg.gid) if os.geteuid() == 0 else None
    try:
        output = LineOutput(settings.output, owner)
    except OSError as error:
        default = Settings().output
        warn(
            f"{variable_of('output')}={settings.output!r} can't be opened "
            f"({error.strerror}); using the default, {default}"
        )
        output = LineOutput(default, owner)
    if cfg.daemon and output.is_null():
        warn(
            f"{variable_of('output')}={output.target!r} is {os.devnull} in a daemon, so "
            "nobody will read the lines; set it to the path of a file"
        )
    return LineWriter(output, settings.format, settings.max_line, counts, settings.fields)
