"""The watchdog's alarm: rung from inside, from outside, and with its pipe taken away."""

from __future__ import annotations

import os
import time

import pytest

from otel_canonical.worker.alarm import ASK_STACKS, Alarm

LONG_S = 30.0


def test_ring_wakes_at_once_and_asks_nothing() -> None:
    """Also when it comes before the sleep."""
    alarm = Alarm()
    alarm.ring()
    alarm.ring()
    started = time.monotonic()
    assert alarm.wait(LONG_S) == b""
    assert time.monotonic() - started < LONG_S / 2
    assert alarm.wait(0.01) == b""


def test_command_wakes_through_proc() -> None:
    """By the descriptor that the scoreboard names."""
    alarm = Alarm()
    assert alarm.outside_fd is not None
    outside = os.open(f"/proc/self/fd/{alarm.outside_fd}", os.O_WRONLY | os.O_NONBLOCK)
    os.write(outside, ASK_STACKS)
    os.close(outside)
    assert alarm.wait(LONG_S) == ASK_STACKS
    assert alarm.wait(0.01) == b""


def test_descriptors_that_the_app_took_over_are_left_alone() -> None:
    """An app that closes all it doesn't know, and opens its own under these numbers."""
    alarm = Alarm()
    assert alarm._pipe is not None
    reader, writer = alarm._pipe
    theirs, other = os.pipe()
    os.dup2(theirs, reader)
    os.dup2(other, writer)
    os.write(other, b"the app's")
    alarm.ring()
    assert alarm.wait(LONG_S) == b""
    assert os.read(theirs, 100) == b"the app's"
    assert alarm.outside_fd is None


def test_alarm_works_without_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is left: it can be rung from inside."""

    def refuse(flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe2", refuse)
    alarm = Alarm()
    assert alarm.outside_fd is None
    alarm.ring()
    assert alarm.wait(LONG_S) == b""
    assert alarm.wait(0.01) == b""
