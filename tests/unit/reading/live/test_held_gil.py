"""Whether the kernel's statistics show that C code holds a worker's GIL."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest

from otel_canonical.reading.live.held_gil import Statistics, is_held, shows_holder, statistics_of

BEFORE = Statistics(turns=7, threads=frozenset({"1", "2"}), ran_ns=10**9, waited_ns=10**9)
MS = 1_000_000


@pytest.mark.parametrize(
    ("turns", "ran_ms", "waited_ms", "elapsed_ms", "is_shown"),
    [
        (40, 205, 0, 210, True),  # C code that computes
        (40, 200, 3000, 3300, True),  # the same where there is hardly a processor for it
        (40, 0, 0, 210, True),  # C code that sleeps
        (40, 30, 170, 210, False),  # Python code that waits for a processor
        (40, 100, 100, 210, False),  # the same with half of one
        (39, 205, 0, 210, False),  # the watchdog itself has had no processor
        (0, 205, 0, 210, False),  # it sleeps, or runs
    ],
)
def test_holder_is_shown_by_turns_and_time(
    turns: int, ran_ms: int, waited_ms: int, elapsed_ms: int, is_shown: bool
) -> None:
    """The watchdog has waited, and whoever has the GIL had time to give it up, or sleeps."""
    now = replace(
        BEFORE,
        turns=BEFORE.turns + turns,
        ran_ns=BEFORE.ran_ns + ran_ms * MS,
        waited_ns=BEFORE.waited_ns + waited_ms * MS,
    )
    assert shows_holder(BEFORE, now, elapsed_ms * MS) == is_shown


def test_threads_that_come_or_go_show_that_python_runs() -> None:
    """What an ended thread had run is missing from the sum."""
    now = Statistics(turns=100, threads=frozenset({"1"}), ran_ns=10**7, waited_ns=10**7)
    assert not shows_holder(BEFORE, now, 10**9)


def test_process_without_statistics_holds_nothing() -> None:
    """Gone, or of a kernel that doesn't count."""
    assert statistics_of(2**22 + 1, 1) is None
    assert not is_held(2**22 + 1, 1, lambda: False)


def test_statistics_are_those_of_the_other_threads() -> None:
    """The watched one gives its processor up; the others run."""
    assert statistics_of(os.getpid(), 2**22 + 1) is None  # no such thread
    ready, done = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    assert thread.native_id is not None
    found = statistics_of(os.getpid(), thread.native_id)
    done.set()
    thread.join()
    assert found is not None
    assert str(threading.get_native_id()) in found.threads
    assert found.ran_ns > 0
