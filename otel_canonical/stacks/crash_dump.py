"""Stacks of a worker that can't speak: dumped by the interpreter's crash handler, without the GIL.

The arbiter makes a nameless file for each worker; in the worker `faulthandler` writes into it, in C,
when the process crashes, and when Gunicorn aborts it: SIGABRT is one of the signals it knows. That
also works while a C function holds the GIL, where no thread and no Python signal handler runs. After
the death the arbiter reads what is there.

Linux only (memfd). Elsewhere, and where the kernel refuses one, such a line has no location.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re

from otel_canonical.pool.memory import make_memfd
from otel_canonical.stacks.location import Frame

#: No more of a dump is read; the interpreter stops at 100 threads of 100 frames.
LONGEST_DUMP = 1 << 20

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')


def make_file() -> int | None:
    """Return the descriptor of a new nameless file (arbiter, before a fork); None if it is refused."""
    return make_memfd("otel-canonical-stacks")


def record_into(fd: int) -> bool:
    """Have crashes and aborts of this process dumped into `fd` (worker, after its signal set-up).

    The handler of SIGABRT that Gunicorn has installed is called after the dump, as before. Processes that
    the app forks dump nothing into it: a crash of theirs is not the worker's.

    Returns:
        False, and nothing is changed, if somebody (PYTHONFAULTHANDLER, the app) has the interpreter
        dump its crashes elsewhere.
    """
    if faulthandler.is_enabled():
        return False
    faulthandler.enable(fd, all_threads=True)
    file = _identity(fd)

    def leave_in_child() -> None:
        # Only the file is taken away: to disable `faulthandler` might disable what the app has made of it
        # since. And only if it is ours still: the app may have closed all it didn't know.
        with contextlib.suppress(OSError):
            if _identity(fd) == file:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, fd, inheritable=False)
                os.close(nowhere)

    os.register_at_fork(after_in_child=leave_in_child)
    return True


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def read_stacks(fd: int) -> dict[int, list[Frame]]:
    """Return the stacks that were dumped, outermost frame first, by thread ident.

    The stack of a thread that the dump doesn't name is under 0.
    """
    with contextlib.suppress(OSError):
        return parse(os.pread(fd, LONGEST_DUMP, 0).decode("utf-8", "replace"))
    return {}


def parse(dump: str) -> dict[int, list[Frame]]:
    """Return the stacks in the text of a dump."""
    stacks: dict[int, list[Frame]] = {}
    stack: list[Frame] | None = None
    for line in dump.splitlines():
        if (thread := _THREAD.match(line)) is not None:
            stack = stacks[int(thread[1], 16)] = []
        elif line.startswith("Stack (most recent"):
            stack = stacks[0] = []
        elif stack is not None and (frame := _FRAME.match(line)) is not None:
            stack.insert(0, (frame[1], int(frame[2]), frame[3]))
    return stacks


def as_text(stack: list[Frame]) -> str:
    """Return a stack as Python prints it, innermost last, without source lines."""
    return "".join(f'  File "{file}", line {line}, in {name}\n' for file, line, name in stack)
