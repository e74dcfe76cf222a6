"""Whether this process may write lines, export, and use its worker's slots: forks of it may not.

Used in every process. A view may call `os.fork()`, or start a `multiprocessing.Process`. The child has
a copy of everything: open requests, queued spans, the shared scoreboard. If it used them, a request
would have two lines, spans would be exported twice, and its slot would be freed under the parent.

The answer is one byte, read as `own[0]`: 1 in the process itself, 0 in its forks. Asking for the process
id instead is a system call. The byte is in a page that Linux clears in every fork (`MADV_WIPEONFORK`,
Linux 4.14), also in forks that Python doesn't know of. Elsewhere `os.register_at_fork` clears it.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable
from typing import Protocol

#: From <linux/mman.h>; the module `mmap` has no name for it.
_WIPE_ON_FORK = 18


class Flag(Protocol):
    """One byte that can be read and written, as `flag[0]`."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


def _make_flag() -> Flag:
    try:
        page = mmap.mmap(
            -1,
            mmap.PAGESIZE,
            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            mmap.PROT_READ | mmap.PROT_WRITE,
        )
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError, AttributeError):
        return bytearray(1)
    return page


#: `own[0]` is 1 in a process that may write, 0 in its forks until they call `claim`.
own: Flag = _make_flag()

_in_child: list[weakref.ref[Callable[[], None]]] = []


def claim() -> None:
    """Let this process write: it is an arbiter, a worker, or one that captures its own events."""
    own[0] = 1


def when_forked(callback: Callable[[], None]) -> None:
    """Call `callback` in every fork that Python makes of this process, as long as the callback lives."""
    # A bound method is an object of the moment: its own kind of reference follows what it is bound to.
    kind = weakref.WeakMethod if hasattr(callback, "__self__") else weakref.ref
    _in_child[:] = [known for known in _in_child if known() is not None]
    _in_child.append(kind(callback))


def _forked() -> None:
    own[0] = 0
    for known in _in_child:
        callback = known()
        if callback is not None:
            callback()


os.register_at_fork(after_in_child=_forked)
claim()
