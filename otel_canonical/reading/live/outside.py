"""Stacks of a worker whose watchdog does not answer: a thread holds the GIL, or there is no CPU for it.

First by py-spy (of the extra `[cli]`), which reads the process's memory and stops nothing. Where that is
not there or not allowed, by a signal to the watchdog's own thread, on which the interpreter dumps all
stacks. **Only a worker whose GIL is held is sent that signal**, see `held_gil`. In any other process such
a dump can crash the interpreter, and a signal cuts blocking calls short; while C code holds the GIL no
frame moves, and the watchdog's thread runs no call of the app's.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import time

from otel_canonical.pool import counters
from otel_canonical.reading.live import held_gil, processes
from otel_canonical.reading.live.answers import Question
from otel_canonical.reading.live.shapes import LiveWorker
from otel_canonical.stacks import crash_dump
from otel_canonical.stacks.location import Frame

PY_SPY_S = 10.0
DUMP_S = 2.0
_LOOK_EVERY_S = 0.005
#: tgkill(2); the C library has a function of that name since glibc 2.30 only.
_TGKILL = {"x86_64": 234, "aarch64": 131}

#: By thread ident; frames from the outermost to the innermost.
Stacks = dict[int, list[Frame]]


def by_py_spy(worker: LiveWorker) -> Stacks | None:
    """Return the stacks of all threads; None if py-spy is not there or not allowed."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")
    program = beside if os.path.exists(beside) else shutil.which("py-spy")
    if program is None:
        return None
    command = [program, "dump", "--pid", str(worker.pid), "--nonblocking", "--json"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PY_SPY_S, check=False)
        threads = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    if threads is None:
        return None
    return {
        thread["thread_id"]: [
            (frame["filename"], frame["line"], frame["name"]) for frame in thread["frames"][::-1]
        ]
        for thread in threads
    }


def by_dump(worker: LiveWorker) -> Stacks | None:
    """Return the stacks that the interpreter dumps on a signal to the watchdog's thread.

    None, and no signal, if frames may move: unless the watchdog is seen to wait for a GIL that C code holds.
    """
    words = worker.words
    number, thread = words[counters.DUMP_SIGNAL], words[counters.WATCHDOG_TID]
    # A signal to a stopped worker would wait until it goes on, and is healthy.
    if not number or not thread or processes.state_of(worker.pid) in processes.STOPPED:
        return None
    if not _is_caught(worker.pid, number):
        return None
    fd = processes.open_fd(worker.pid, words[counters.DUMP_FD] - 1, os.O_RDONLY)
    outer = _thread_seen_from_here(worker.pid, thread)
    if fd is None:
        return None
    try:
        begun = os.fstat(fd).st_size
        if outer is None or not _waits_for_gil(worker, outer):
            return None
        if not _send(worker.pid, outer, number):
            return None
        return _await_dump(fd, begun)
    finally:
        os.close(fd)


def _waits_for_gil(worker: LiveWorker, thread: int) -> bool:
    # Asked again, so that its watchdog wants the GIL now.
    question = Question(worker)
    with contextlib.closing(question):
        return question.is_asked and held_gil.is_held(worker.pid, thread, question.is_answered)


def _await_dump(fd: int, begun: int) -> Stacks | None:
    deadline = time.monotonic() + DUMP_S
    size = begun
    while time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
        before, size = size, os.fstat(fd).st_size
        # It is whole when it grows no more.
        if size > begun and size == before:
            dump = os.pread(fd, size - begun, begun)
            return crash_dump.parse(dump.decode("utf-8", "replace"))
    return None


def _is_caught(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal: the default of ours would end it."""
    with contextlib.suppress(OSError, ValueError):
        for line in (processes.PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _thread_seen_from_here(pid: int, inner: int) -> int | None:
    """Return the id of a thread as we see it, given the one that it has in its own pid namespace."""
    with contextlib.suppress(OSError, ValueError):
        for name in os.listdir(processes.PROC / str(pid) / "task"):
            for line in (
                (processes.PROC / str(pid) / "task" / name / "status").read_text().splitlines()
            ):
                if line.startswith("NSpid:") and int(line.split()[-1]) == inner:
                    return int(name)
    return None


def _send(pid: int, thread: int, number: int) -> bool:
    call = _TGKILL.get(platform.machine())
    if call is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(call, pid, thread, number) == 0)
