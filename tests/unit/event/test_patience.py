"""How long lines wait for room: the first one for long, then a small share of the time, never twice in vain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_canonical.event import patience
from otel_canonical.event.patience import Patience
from otel_canonical.process import descriptors


class Clock:
    """A monotonic clock that a wait moves on."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits_ms: list[int] = []
        self.has_room = False
        self.takes_s: float | None = None

    def monotonic(self) -> float:
        """Return the time."""
        return self.now_s

    def wait(self, fd: int, wait_ms: int) -> bool:
        """Wait as `has_room` does: to the end if there is none."""
        self.waits_ms.append(wait_ms)
        self.now_s += wait_ms / 1000 if self.takes_s is None else self.takes_s
        return self.has_room


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock that patience goes by."""
    clock = Clock()
    monkeypatch.setattr(patience.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(descriptors, "has_room", clock.wait)
    yield clock
    monkeypatch.undo()


def wait(one: Patience) -> bool:
    """Wait for room; return whether there was some."""
    try:
        one.wait_for_room(1)
    except BlockingIOError:
        return False
    return True


def test_first_line_waits_and_the_next_do_not_while_there_is_no_room(clock: Clock) -> None:
    """A reader that hangs holds one request up."""
    one = Patience()
    assert [wait(one) for _ in range(3)] == [False] * 3
    assert clock.waits_ms == [200, 0, 0]
    assert one.is_full


def test_slow_reader_takes_a_share_of_the_time(clock: Clock) -> None:
    """Whatever was waited comes back at one twentieth of the clock's speed."""
    one = Patience()
    clock.has_room = True
    clock.takes_s = 0.150
    assert wait(one)
    clock.takes_s = 0.050
    assert wait(one)
    assert clock.waits_ms == [200, 50]
    clock.takes_s = 0.0
    assert wait(one)
    clock.now_s += 2.0
    assert wait(one)
    clock.now_s += 1000.0
    assert wait(one)
    assert clock.waits_ms[2:] == [0, 100, 200]


def test_line_that_was_written_makes_patient_again(clock: Clock) -> None:
    """The output says so; what is left counts."""
    one = Patience()
    assert not wait(one)
    clock.now_s += 1.0
    one.is_full = False
    clock.has_room = True
    assert wait(one)
    assert clock.waits_ms == [200, 50]


def test_limit_is_smaller_where_one_thread_serves_all(clock: Clock) -> None:
    """It would hold all of them up."""
    one = Patience()
    one.limit_ms = patience.PATIENCE_OF_LOOP_MS
    assert not wait(one)
    assert clock.waits_ms == [10]
    assert (patience.PATIENCE_MS, patience.PATIENCE_SHARE) == (200, 0.05)
