"""How long a thread waited for a CPU: the kernel's count of its time on a run queue.

Throttling by a quota and neighbours on the same processor make it grow; waiting for I/O or a lock
doesn't. One `pread` a look, on a file that each thread opens once. Where /proc shows no such file, or
the kernel doesn't count, there is nothing to read.
"""

from __future__ import annotations

# The module, not `get_ident`: gevent replaces that in its module.
import _thread
import contextlib
import os

from otel_canonical.process.identity import when_forked
from otel_canonical.process.interruptions import is_interruption

PATH = "/proc/thread-self/schedstat"

#: Three numbers of at most 20 digits.
SIZE = 64

#: With so many files open, those of threads that have ended are closed before one more is opened.
MANY = 64


class RunQueue:
    """Reads the kernel's scheduling statistics of threads.

    Attributes:
        files: the open files, by the ident of the thread. A file stays that of its thread, whichever
            thread reads it.
    """

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self.files: dict[int, int] = {}
        self._is_known = True
        when_forked(self.forget)

    def read(self) -> bytes | None:
        """Return the statistics of the calling thread, for `wait_between`; None if there are none."""
        if not self._is_known:
            return None
        try:
            return os.pread(self.files[_thread.get_ident()], SIZE, 0)
        except (KeyError, ProcessLookupError):
            # The first look of a thread; or its ident was that of a thread that has ended.
            return self._open()

    def forget(self) -> None:
        """Close the files of all threads."""
        files, self.files = self.files, {}
        for file in files.values():
            with contextlib.suppress(OSError):
                os.close(file)

    def _open(self) -> bytes | None:
        me = _thread.get_ident()
        self._close(me)
        if len(self.files) >= MANY:
            self._sweep()
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self.files[me] = file
            found = os.pread(file, SIZE, 0)
            # What a thread ran is noted late, its turns at once: no turn means that the kernel doesn't count.
            _, _, turns = map(int, found.split())
        except (OSError, ValueError) as error:
            # A signal handler of the app's may raise a TimeoutError in here, which is an OSError.
            if is_interruption(error):
                raise
            self._is_known = False
            self.forget()
            return None
        if not turns:
            self._is_known = False
            self.forget()
            return None
        return found

    def _sweep(self) -> None:
        for ident, file in list(self.files.items()):
            try:
                os.pread(file, SIZE, 0)
            except ProcessLookupError:  # noqa: PERF203  # of each file by itself
                self._close(ident)

    def _close(self, ident: int) -> None:
        file = self.files.pop(ident, None)
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)


#: The only one that is needed.
run_queue = RunQueue()
