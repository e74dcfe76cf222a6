"""Asks a worker's watchdog where its open requests are: no signal, no ptrace, no port."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from otel_canonical.pool import counters
from otel_canonical.reading.live import processes
from otel_canonical.reading.live.shapes import LiveWorker

#: As `worker.live` and `worker.alarm` have them; a server must not load this package, nor we theirs.
ANSWER = struct.Struct("=QQQ")
ANSWER_START = 64
ASK_STACKS = b"s"

#: A worker that has not answered by then has a thread that holds the GIL, or no processor time.
ANSWER_S = 2.0
_LOOK_EVERY_S = 0.001

Frame = tuple[str, int, str, bool]


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack, outermost frame first: file, line, function, whether it is the app's.

    Attributes:
        frames: empty where the worker could not tell at that moment.
        requests: `started_ns` and thread of each request that is there.
    """

    frames: tuple[Frame, ...]
    requests: tuple[tuple[int, int], ...]


class Question:
    """One question to one worker. Ask all workers before you wait for the first.

    Args:
        worker: whom to ask.
    """

    def __init__(self, worker: LiveWorker) -> None:
        self._asked_ns = time.monotonic_ns()
        self._answer: int | None = None
        self.is_asked = False
        words = worker.words
        if worker.state != "running" or not words[counters.WAKE_FD]:
            return
        self._answer = processes.open_fd(worker.pid, words[counters.ANSWER_FD] - 1, os.O_RDONLY)
        flags = os.O_WRONLY | os.O_NONBLOCK
        wake = processes.open_fd(worker.pid, words[counters.WAKE_FD] - 1, flags)
        if wake is None or self._answer is None:
            return
        with contextlib.suppress(OSError):
            os.write(wake, ASK_STACKS)
            self.is_asked = True
        os.close(wake)

    def wait(self, until: float) -> list[Stack] | None:
        """Return the answer; None if none has come by `until` (monotonic seconds)."""
        with contextlib.closing(self):
            while self.is_asked:
                found = self._look()
                if found is not None:
                    return found
                if time.monotonic() > until:
                    break
                time.sleep(_LOOK_EVERY_S)
        return None

    def is_answered(self) -> bool:
        """Return whether the answer is there."""
        return self._look() is not None

    def close(self) -> None:
        """Give the question up; `wait` does so by itself."""
        answer, self._answer = self._answer, None
        if answer is not None:
            os.close(answer)

    def _look(self) -> list[Stack] | None:
        if self._answer is None:
            return None
        head = os.pread(self._answer, ANSWER.size, 0)
        if len(head) < ANSWER.size:
            return None
        sequence, taken_ns, length = ANSWER.unpack(head)
        if sequence % 2 or taken_ns < self._asked_ns:
            return None
        text = os.pread(self._answer, length, ANSWER_START)
        # Another command may have asked meanwhile.
        if os.pread(self._answer, ANSWER.size, 0) != head:
            return None
        return list(_parsed(json.loads(text)["stacks"]))


def _parsed(stacks: list[dict[str, list[list[object]]]]) -> Iterator[Stack]:
    for stack in stacks:
        yield Stack(
            tuple(tuple(frame) for frame in stack["frames"]),  # type: ignore[misc]
            tuple(tuple(request) for request in stack["requests"]),  # type: ignore[misc]
        )
