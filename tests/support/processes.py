"""What /proc tells of processes: whether they live, what they run, hold and take."""

from __future__ import annotations

import collections
import contextlib
import os
import re
from pathlib import Path

from tests.support.servers import command_of


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def processes_of(home: Path) -> dict[int, str]:
    """Return the processes whose HOME is a test's directory: whatever its server has started."""
    found = {}
    wanted = f"HOME={home}".encode()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in (process / "environ").read_bytes().split(b"\0"):
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(process.name)] = command.decode(errors="replace")
    return found


def descriptors_of(pid: int) -> collections.Counter[str]:
    """Return what the open descriptors of a process stand for, those of a kind under one name."""
    found: collections.Counter[str] = collections.Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            # `socket:[123]`, `/tmp/wgunicorn-x1y2z3 (deleted)`: numbers and names that change.
            found[re.sub(r":\[.*|(?<=wgunicorn-)\w+", "", os.readlink(descriptor))] += 1
    return found


def has_children(pid: int) -> bool:
    """Return whether a process has children."""
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def process_that_runs(module: str, home: Path) -> int | None:
    """Return the pid of the process of ours that runs a module, None if there is none."""
    for pid, command in processes_of(home).items():
        if f"otel_canonical.{module}" in command:
            return pid
    return None


def is_reporter(pid: int) -> bool:
    """Return whether a process is a reporter."""
    return b"otel_canonical.reporter" in command_of(pid)


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def shared_memory_of(pid: int) -> set[str]:
    """Return the files in /dev/shm that a process holds open or has mapped."""
    mapped = Path(f"/proc/{pid}/maps").read_text()
    return set(re.findall(r"/dev/shm/\S+", "\n".join([mapped, *open_files(pid)])))


def resident_kib(pid: int) -> int:
    """Return the anonymous memory of a process, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


def open_files(pid: int) -> set[str]:
    """Return what the descriptors of a process stand for."""
    return {stands_for(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}


def stands_for(descriptor: Path) -> str:
    """Return the file of a descriptor, or nothing if it was closed in the meantime."""
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return ""
