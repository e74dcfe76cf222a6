"""Time limits of an app's: a signal handler that raises in any line of ours."""

from __future__ import annotations

import dis
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import otel_canonical

NOP = dis.opmap["NOP"]
OURS = str(Path(otel_canonical.__file__).parent)


class TimeIsUp(Exception):
    """What a view's own time limit raises."""


class Alarm:
    """Raises at the n-th line of ours that runs, as a signal handler may."""

    def __init__(self, at: int, kind: type[BaseException] = TimeIsUp) -> None:
        #: Lines until it rings.
        self.left = at
        self._kind = kind
        #: The line in which it has rung; empty before.
        self.where = ""

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        """Be a trace function."""
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        # Python runs no signal handler at a NOP, which stands for `try:`.
        if event == "line" and frame.f_code.co_code[frame.f_lasti] != NOP:
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                before = signal.signal(signal.SIGUSR2, self.handle)
                try:
                    signal.raise_signal(signal.SIGUSR2)
                finally:
                    signal.signal(signal.SIGUSR2, before)
        return self

    def handle(self, number: int, frame: FrameType) -> None:
        """Be a signal handler."""
        sys.settrace(None)
        raise self._kind("the view takes too long")
