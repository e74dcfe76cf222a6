"""Whether C code holds a worker's GIL, so that no Python frame moves: told from the kernel's statistics.

A thread that wants the GIL waits for 5 ms and asks for it, again and again: it gives its processor up at each
turn. Python code that has the GIL answers that before its next call or loop; C code doesn't. So the GIL is
held if the watchdog has waited many turns and the process had a processor long enough to have answered,
or needs none: a C function that holds the GIL may also sleep. A worker that only lacks a processor has
neither.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from otel_canonical.reading.live import processes

#: How long a worker is looked at, at most.
LOOK_S = 4.0
_LOOK_EVERY_S = 0.02
#: Turns of 5 ms in which Python code would have given the GIL up.
TURNS = 40
RAN_NS = TURNS * 5_000_000
#: A process that runs, or wants to, for less than this share of the time sleeps.
SLEEPING = 0.2


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the kernel has counted of a process so far.

    Attributes:
        turns: how often the watched thread has given up its processor by itself.
        threads: the other threads.
        ran_ns: how long these ran.
        waited_ns: how long they could run and had no processor.
    """

    turns: int
    threads: frozenset[str]
    ran_ns: int
    waited_ns: int


def is_held(pid: int, thread: int, has_got_it: Callable[[], bool]) -> bool:
    """Return whether the GIL is held while a thread, which was woken, wants it.

    Args:
        pid: the worker's.
        thread: the id of its watchdog's thread, as seen from here.
        has_got_it: returns whether that thread has shown that it runs Python.
    """
    begun_ns = time.monotonic_ns()
    before = statistics_of(pid, thread)
    while before is not None and time.monotonic_ns() - begun_ns < LOOK_S * 1e9:
        time.sleep(_LOOK_EVERY_S)
        now = statistics_of(pid, thread)
        if now is None or has_got_it():
            break
        if shows_holder(before, now, time.monotonic_ns() - begun_ns):
            return True
    return False


def shows_holder(before: Statistics, now: Statistics, elapsed_ns: int) -> bool:
    """Return whether what was counted in between can't have happened while Python code ran."""
    if now.threads != before.threads or now.turns - before.turns < TURNS:
        return False
    ran_ns = now.ran_ns - before.ran_ns
    wanted_ns = ran_ns + now.waited_ns - before.waited_ns
    return ran_ns >= RAN_NS or wanted_ns <= SLEEPING * elapsed_ns


def statistics_of(pid: int, thread: int) -> Statistics | None:
    """Return what the kernel has counted; None if a thread has ended meanwhile or the kernel doesn't count."""
    tasks = processes.PROC / str(pid) / "task"
    ran_ns = waited_ns = 0
    with contextlib.suppress(OSError, ValueError):
        others = frozenset(os.listdir(tasks)) - {str(thread)}
        for name in others:
            ran, waited, _ = (tasks / name / "schedstat").read_text().split()
            ran_ns += int(ran)
            waited_ns += int(waited)
        for line in (tasks / str(thread) / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:") and ran_ns:
                return Statistics(int(line.split()[1]), others, ran_ns, waited_ns)
    return None
