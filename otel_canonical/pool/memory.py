"""Memory that the arbiter shares with its workers and shows to the commands: a memfd, made before the fork.

It has no name in any file system: nothing is left behind, whatever is killed. `/proc/PID/fd` of the
arbiter leads to it. Where the kernel refuses a memfd (seccomp, no descriptor left) the memory is
anonymous: workers and arbiter work as ever, the commands can't see the pool.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os

#: `fcntl` names them since 3.9 where the C library does.
_ADD_SEALS = getattr(fcntl, "F_ADD_SEALS", 1033)
_SEAL_SHRINK = getattr(fcntl, "F_SEAL_SHRINK", 2)


class SharedMemory:
    """Shared memory of a fixed size, all zeros at first. Memory that is never touched costs nothing.

    Args:
        name: of the memfd.
        size: in bytes, a multiple of 8.

    Attributes:
        bytes: all of it.
        quarters: all of it as unsigned 2-byte numbers.
        halves: all of it as unsigned 4-byte numbers.
        words: all of it as signed 8-byte numbers.
        fd: the memfd; None if the memory is anonymous.
    """

    def __init__(self, name: str, size: int) -> None:
        self.fd: int | None = None
        memory = None
        fd = make_memfd(name)
        if fd is not None:
            try:
                os.ftruncate(fd, size)
                memory = mmap.mmap(fd, size)
                self.fd = fd
                # Whoever may open it could shorten it otherwise, and each touch beyond would be a SIGBUS.
                with contextlib.suppress(OSError):
                    fcntl.fcntl(fd, _ADD_SEALS, _SEAL_SHRINK)
            except OSError:
                os.close(fd)
        self.bytes = memory if memory is not None else mmap.mmap(-1, size)
        # A core dump that goes through a pipe would hold all that was never touched.
        with contextlib.suppress(OSError, AttributeError):
            self.bytes.madvise(mmap.MADV_DONTDUMP)
        self.quarters = memoryview(self.bytes).cast("H")
        self.halves = memoryview(self.bytes).cast("I")
        self.words = memoryview(self.bytes).cast("q")

    def close_descriptors(self) -> None:
        """Close the memfd in this process, which keeps the memory mapped but must not lead to it."""
        fd, self.fd = self.fd, None
        if fd is None:
            return
        shared = os.fstat(fd)
        os.close(fd)
        # `mmap` keeps a duplicate, which it closes by its number at the end: something must stay there.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the one of the listing is closed again
                if os.path.samestat(os.fstat(int(name)), shared):
                    os.dup2(null, int(name), inheritable=False)
        os.close(null)

    def __del__(self) -> None:
        if self.fd is not None:
            with contextlib.suppress(OSError):
                os.close(self.fd)


def make_memfd(name: str) -> int | None:
    """Return a new memfd; None where there is none to be had."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (OSError, AttributeError):
        return None
