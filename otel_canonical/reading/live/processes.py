"""What `/proc` says of processes: of each without asking it, and without waiting for it."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

PROC = Path("/proc")
#: States of `/proc/PID/stat` in which a process can't react: stopped, traced, dead.
STOPPED = frozenset("Tt")
DEAD = frozenset("ZXx")


def pids() -> list[int]:
    """Return all processes."""
    return [int(name) for name in os.listdir(PROC) if name.isdecimal()]


def state_of(pid: int) -> str:
    """Return the letter of a process's state; `X` if it is gone."""
    with contextlib.suppress(OSError, IndexError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    return "X"


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0 if it is gone."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def children_of(pid: int) -> list[int]:
    """Return the children that a process's main thread has forked."""
    with contextlib.suppress(OSError):
        return [int(child) for child in (PROC / f"{pid}/task/{pid}/children").read_text().split()]
    return []


def namespaced_pids(pid: int) -> list[int]:
    """Return the pids of a process, from our namespace inwards to its own; empty if it is gone."""
    with contextlib.suppress(OSError, ValueError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return [int(number) for number in line.split()[1:]]
    return []


def command_of(pid: int) -> str:
    """Return the command line of a process, empty if it is gone."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return ""


def owner_of(pid: int) -> str:
    """Return the name of the user whose process it is."""
    with contextlib.suppress(OSError):
        uid = os.stat(PROC / str(pid)).st_uid
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(uid).pw_name
        return str(uid)
    return "unknown"


def memory_of(pid: int, *, proportional: bool) -> int | None:
    """Return a process's memory in bytes: resident or, which takes longer, its proportional share.

    The latter is left out while the process waits in the kernel, where reading it could wait, too.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        if not proportional:
            pages = (PROC / str(pid) / "statm").read_text().split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        if state_of(pid) != "D":
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    return None


def open_fd(pid: int, number: int, flags: int) -> int | None:
    """Open what a descriptor of a process refers to; None if it is gone or not ours to open."""
    with contextlib.suppress(OSError):
        return os.open(PROC / str(pid) / "fd" / str(number), flags | os.O_CLOEXEC)
    return None
