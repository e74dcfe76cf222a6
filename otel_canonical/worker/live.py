"""What a worker shows and answers to the commands of `otel-canonical`, which run outside.

Shown on the scoreboard: its pid, when it had loaded the app, and the descriptors by which a command finds
its heartbeat, wakes its watchdog and reads the answer, all through `/proc/PID/fd`.

The answer is in a memfd::

      0  uint64  sequence: odd while the answer is written
      8  uint64  when the stacks were taken, monotonic ns
     16  uint64  bytes of the answer
     64  JSON: `{"stacks": [{"frames": [[file, line, function, is_app], ...], "requests": [[started_ns,
         thread_id], ...]}, ...]}`, frames from the outermost to the innermost

A command takes the first answer that is younger than its question, so many may ask at once.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import struct
import time
from collections.abc import Mapping
from typing import Any

from otel_canonical.pool.counters import (
    ANSWER_FD,
    BOOTED_NS,
    DUMP_FD,
    DUMP_SIGNAL,
    HEARTBEAT_FD,
    PID,
    WAKE_FD,
    WATCHDOG_TID,
)
from otel_canonical.pool.memory import make_memfd
from otel_canonical.pool.place import Place
from otel_canonical.request.scope import RequestScope
from otel_canonical.stacks.location import Frame, as_frames, is_library
from otel_canonical.worker.stack_samples import stack_of

ANSWER = struct.Struct("=QQQ")
ANSWER_START = 64

#: Far from those that others take: `SIGRTMIN` and the next are the C library's, systemd's, valgrind's.
DUMP_ON = getattr(signal, "SIGRTMAX", 64) - 11


class LiveWorker:
    """Shows one worker to the commands and answers them.

    Args:
        place: the worker's.
        in_flight: its open requests.
    """

    def __init__(self, place: Place, in_flight: Mapping[int, RequestScope]) -> None:
        self._words = place.words()
        self._in_flight = in_flight
        self._sequence = 0
        self._answer_fd = make_memfd("otel-canonical-answer")

    def show(self, worker: Any, wake_fd: int | None) -> None:
        """Show where the worker is found.

        Args:
            worker: Gunicorn's.
            wake_fd: what wakes its watchdog.
        """
        words = self._words
        with contextlib.suppress(OSError, ValueError, AttributeError):
            words[HEARTBEAT_FD] = worker.tmp.fileno() + 1
        if wake_fd is not None and self._answer_fd is not None:
            words[WAKE_FD] = wake_fd + 1
            words[ANSWER_FD] = self._answer_fd + 1
        words[PID] = os.getpid()

    def watching(self, native_id: int) -> None:
        """Show the watchdog's thread."""
        self._words[WATCHDOG_TID] = native_id

    def booted(self) -> None:
        """Show that the app is loaded; let the interpreter dump all stacks on `DUMP_ON`.

        A command sends that signal to the watchdog's thread only, and only when the watchdog does not
        answer: while a C function holds the GIL no Python frame moves, which makes a dump safe.
        """
        if signal.getsignal(DUMP_ON) is signal.SIG_DFL:
            fd = make_memfd("otel-canonical-dump")
            if fd is not None:
                faulthandler.register(DUMP_ON, fd, all_threads=True, chain=False)
                self._words[DUMP_FD] = fd + 1
                self._words[DUMP_SIGNAL] = DUMP_ON
        self._words[BOOTED_NS] = time.monotonic_ns()

    def answer(self) -> None:
        """Write the stacks of all open requests, equal ones once."""
        if self._answer_fd is None:
            return
        taken_ns = time.monotonic_ns()
        grouped: dict[tuple[Frame, ...], list[tuple[int, int]]] = {}
        for scope in list(self._in_flight.values()):
            frames = tuple(as_frames(stack_of(scope)))
            if not scope.is_claimed:
                grouped.setdefault(frames, []).append((scope.started_ns, scope.thread_id))
        stacks = [
            {"frames": [(*frame, not is_library(frame[0])) for frame in frames], "requests": found}
            for frames, found in grouped.items()
        ]
        text = json.dumps({"stacks": stacks}, separators=(",", ":")).encode("utf-8", "replace")
        self._write(text, taken_ns)

    def _write(self, text: bytes, taken_ns: int) -> None:
        assert self._answer_fd is not None
        head = ANSWER.pack(self._sequence + 1, taken_ns, len(text))
        os.pwrite(self._answer_fd, head, 0)
        os.ftruncate(self._answer_fd, ANSWER_START)
        os.pwrite(self._answer_fd, text, ANSWER_START)
        self._sequence += 2
        os.pwrite(self._answer_fd, ANSWER.pack(self._sequence, taken_ns, len(text)), 0)
