"""Shared memory: what leads to it, and what stays when that is closed."""

from __future__ import annotations

import contextlib
import gc
import os

from otel_canonical.pool.memory import SharedMemory
from tests.support.forks import exit_status, fork

NAME = "otel-canonical-test-of-memory"


def descriptors() -> list[int]:
    """Return this process's descriptors that lead to the memory."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of the listing is closed again
            if os.readlink(f"/proc/self/fd/{name}").startswith(f"/memfd:{NAME}"):
                found.append(int(name))
    return found


def test_closed_descriptors_leave_the_memory_as_it_is() -> None:
    """A fork closes all that leads to the memory, its own only; the memory can still be read."""
    memory = SharedMemory(NAME, 4096)
    assert memory.fd in descriptors()
    memory.words[3] = 7

    def close() -> None:
        assert memory.fd in descriptors()
        memory.close_descriptors()
        assert (memory.fd, descriptors(), memory.words[3]) == (None, [], 7)
        memory.close_descriptors()  # twice is once

    assert exit_status(fork(close)) == 0
    assert memory.fd in descriptors()


def test_descriptors_that_come_later_are_not_closed_with_the_memory() -> None:
    """`mmap` closes its own descriptor by its number at its end: no other file has that number."""
    memory = SharedMemory(NAME, 4096)
    memory.close_descriptors()
    later = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    del memory
    gc.collect()
    for descriptor in later:
        os.close(descriptor)  # raises if it was closed
