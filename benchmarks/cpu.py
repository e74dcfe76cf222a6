"""The CPU clocks of a server's processes, to the nanosecond, read from outside.

A process's clock also holds the time of threads that have ended. The sum over
`/proc/<pid>/task/*/schedstat` does not: it would miss almost all of a peer that starts a thread for
each request.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

CPUCLOCK_SCHED = 2  # Linux, include/linux/posix-timers_types.h


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU used since the processes began: by the worker, and by the whole server with it."""

    worker_ns: int = 0
    server_ns: int = 0

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.worker_ns - earlier.worker_ns, self.server_ns - earlier.server_ns)

    def __add__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.worker_ns + other.worker_ns, self.server_ns + other.server_ns)


def read_process_ns(pid: int) -> int:
    """Return the CPU time of the process, all its threads, living and ended."""
    return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED)


def read_cpu(worker: int, family: frozenset[int]) -> CpuTime:
    """Return the clocks of one server; raises OSError if a process is gone."""
    worker_ns = read_process_ns(worker)
    rest_ns = sum(read_process_ns(pid) for pid in family if pid != worker)
    return CpuTime(worker_ns, worker_ns + rest_ns)


def find_family(leader: int) -> frozenset[int]:
    """Return the pid, its descendants, and whoever else still lives in its session.

    The session finds a helper that forked twice and so lost its parent.
    """
    parents: dict[int, int] = {}
    family = {leader}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended while we looked
        state, parent, _, session = after_name[:4]
        if state == "Z":
            continue  # it runs no more
        pid = int(stat.parent.name)
        parents[pid] = int(parent)
        if int(session) == leader:
            family.add(pid)
    for _ in range(len(parents)):
        children = {pid for pid, parent in parents.items() if parent in family}
        if children <= family:
            break
        family |= children
    return frozenset(family)
