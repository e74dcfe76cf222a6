"""Keeps what the application prints apart from our lines, where both go to the same file.

Lives in the arbiter and in workers. Where Python doesn't buffer standard output (`PYTHONUNBUFFERED`),
`print("x")` is two writes, the text and its newline. Where it does, a write ends in the middle of a line.
A line of ours, perhaps another process's, may come between two writes. So text leaves in whole lines.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

from otel_canonical.event.output import LineOutput
from otel_canonical.patching import patch

#: Characters of a line. The stream itself keeps no more than twice as many bytes.
MOST_KEPT = 2048


def keep_apart(output: LineOutput) -> None:
    """Make standard output and error write whole lines if they go where `output` does; twice is once."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        # Closed, no descriptor behind it, or its reader is gone: what it holds is written first.
        with contextlib.suppress(OSError, ValueError):
            if output.is_same_file(stream.fileno()):
                stream.reconfigure(line_buffering=True, write_through=False)
                lines = _WholeLines(stream, output)
                patch(stream, "write", lines.write_up_to_line_end)
                patch(stream, "flush", lines.flush_and_mark)


class _WholeLines:
    """What a line-buffered text stream is given, by lines.

    Args:
        stream: writes all that it has as soon as a text holds a line end, also what comes behind it.
        output: is told when the beginning of a line has left the stream.
    """

    def __init__(self, stream: io.TextIOWrapper, output: LineOutput) -> None:
        self._stream = stream
        self._output = output
        #: How many characters the stream keeps of a line.
        self._kept = 0
        #: The tear's number, if the beginning of that line has left the stream.
        self._torn: int | None = None

    def write_up_to_line_end(self, write: Callable[[str], int]) -> Callable[[str], int]:
        """Keep what comes behind the last line end of a text until that line ends or is flushed."""

        def write_by_lines(text: Any) -> int:
            end = text.rfind("\n") + 1 if isinstance(text, str) else 0
            rest = text
            if end:
                rest = text[end:]
                write(text[:end])
                if self._torn is not None:
                    self._output.end_line(self._torn)
                    self._torn = None
                self._kept = 0
            if rest:
                write(rest)
                self._kept += len(rest)
                if self._kept > MOST_KEPT:
                    self._stream.flush()
            return len(text)

        return write_by_lines

    def flush_and_mark(self, flush: Callable[[], None]) -> Callable[[], None]:
        """Have our next line begin with a newline when the beginning of a line is flushed."""

        def flush_all() -> None:
            flush()
            if self._kept:
                self._kept = 0
                self._torn = self._output.tear()

        return flush_all
