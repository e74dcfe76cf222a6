"""Records the stacks of a worker that crashes or is aborted, with `faulthandler`.

The arbiter makes a memfd for each worker. In the worker `faulthandler` writes the stacks into it when
the process crashes and when Gunicorn aborts it (SIGABRT). It is written in C and needs no GIL, so it
also works while a C function holds the GIL and neither threads nor Python signal handlers run. The
arbiter reads the file after the worker's death.

Linux only (memfd). Elsewhere, and where the kernel refuses a memfd, the lines of lost requests have no location.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
from collections.abc import Callable

from otel_canonical.pool.memory import make_memfd
from otel_canonical.process.identity import when_forked
from otel_canonical.stacks.location import Frame

#: The most bytes of a dump that are read. The interpreter writes at most 100 threads of 100 frames.
LONGEST_DUMP = 1 << 20

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')


def make_file() -> int | None:
    """Return the descriptor of a new memfd; None if it is refused. Call it in the arbiter, before a fork."""
    return make_memfd("otel-canonical-stacks")


def record_into(fd: int) -> bool:
    """Dump crashes and aborts of this process into `fd`. Call it in the worker, after its signal set-up.

    Gunicorn's handler of SIGABRT is still called, after the dump. Processes that the app forks don't
    write into the file: their crashes are not the worker's.

    Returns:
        False if `faulthandler` is in use already (PYTHONFAULTHANDLER, the app); then nothing changes.
    """
    if faulthandler.is_enabled():
        return False
    faulthandler.enable(fd, all_threads=True)
    file = _identity(fd)

    def redirect_in_child() -> None:
        # Redirect the descriptor instead of disabling `faulthandler`, which the app may use by now. Only
        # if it is still our file: the app may have closed descriptors that it didn't know.
        with contextlib.suppress(OSError):
            if _identity(fd) == file:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, fd, inheritable=False)
                os.close(nowhere)

    when_forked(redirect_in_child)
    _redirections.append(redirect_in_child)
    return True


#: `when_forked` keeps nothing alive.
_redirections: list[Callable[[], None]] = []


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def read_stacks(fd: int) -> dict[int, list[Frame]]:
    """Return the dumped stacks, outermost frame first, by thread ident.

    A stack without a thread ident in the dump has the key 0.
    """
    with contextlib.suppress(OSError):
        return parse(os.pread(fd, LONGEST_DUMP, 0).decode("utf-8", "replace"))
    return {}


def parse(dump: str) -> dict[int, list[Frame]]:
    """Return the stacks in a dump's text; see `read_stacks`."""
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
