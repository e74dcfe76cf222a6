"""Marks of outputs that end in the middle of a line, shared by all processes that write to them.

A full disk takes a part of a line. The next write, in whichever process, begins with a newline, so that
only this one line is lost. The marks are pages of shared memory, made in the arbiter when the first output
is opened and inherited by every fork. A mark is found by the file's device and inode: it stays the same
when the output is reopened or a reload opens it again. Two files that share a mark get an empty line too
many.

======  ==========================================================================================
bytes   of a mark
======  ==========================================================================================
0 to 3  number of the tear that came last; no two tears have the same
4 to 7  number of the tear that a newline has ended last
======  ==========================================================================================

The output ends with a line while both are equal. A writer ends the tear that it saw before it wrote, so a
tear that happens meanwhile stays marked, at the price of an empty line.

A limit: a process that is stopped between its look at the mark and its write, for as long as another one
tears a line and room returns, writes behind the torn line without a newline.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
import os
import stat

MARKS = 2048
_BYTES = 8

#: What a `TornLineMark` has not seen yet.
_UNKNOWN = -1
#: A tear's number: the pid, and a count of this process's tears below it.
_COUNT_BITS = 10
_tears = itertools.count()


class TornLineMark:
    """The mark of one open output, as this process sees it.

    Args:
        shared: the `_BYTES` bytes of the mark.
    """

    __slots__ = ("_numbers", "state", "whole_state")

    def __init__(self, shared: memoryview) -> None:
        self._numbers = shared.cast("I")
        #: Item 0 is the whole mark in one number, for one look before each write.
        self.state = shared.cast("Q")
        #: That number when the output was last seen to end with a line.
        self.whole_state = _UNKNOWN

    def is_torn(self) -> bool:
        """Return whether the output ends in the middle of a line."""
        return self._numbers[0] != self._numbers[1]

    def tear(self) -> int:
        """Mark the output as ending in the middle of a line; return the tear's number."""
        numbers = self._numbers
        torn = _new_number()
        if torn == numbers[1]:  # after a thousand tears of this process
            torn = _new_number()
        numbers[0] = torn
        return torn

    def last_tear(self) -> int:
        """Return the number of the last tear."""
        return self._numbers[0]

    def end(self, torn: int) -> None:
        """Note that a line end has been written behind the tear of this number."""
        numbers = self._numbers
        if numbers[0] == torn:
            numbers[1] = torn
        state = self.state[0]
        if state & 0xFFFFFFFF == state >> 32:
            self.whole_state = state

    def is_untouched_since(self, torn: int) -> bool:
        """Return whether this tear is the last one, and not ended."""
        numbers = self._numbers
        return numbers[0] == torn and numbers[1] != torn

    def clear(self) -> None:
        """Mark the output as ending with a line."""
        self._numbers[1] = self._numbers[0]


def _new_number() -> int:
    # Linux has pids of at most 22 bits.
    return (os.getpid() << _COUNT_BITS | next(_tears) % (1 << _COUNT_BITS)) & 0xFFFFFFFF


def unshared_mark() -> TornLineMark:
    """Return the mark of an output that takes nothing."""
    return TornLineMark(memoryview(bytearray(_BYTES)))


@functools.cache
def _page() -> memoryview:
    return memoryview(mmap.mmap(-1, _BYTES * MARKS))


def mark_of(fd: int) -> TornLineMark:
    """Return the mark of an open file, set if what is in the file lacks a newline at its end."""
    found = os.fstat(fd)
    place = hash((found.st_dev, found.st_ino)) % MARKS * _BYTES
    mark = TornLineMark(_page()[place : place + _BYTES])
    if stat.S_ISREG(found.st_mode):
        if found.st_size == 0:
            mark.clear()
        elif not mark.is_torn() and _lacks_line_end(fd, found.st_size):
            mark.tear()
    return mark


def _lacks_line_end(fd: int, size: int) -> bool:
    """Return whether a file's last byte is no newline: an earlier run met a full disk."""
    # The descriptor itself is for writing only.
    with contextlib.suppress(OSError):
        reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(reader, 1, size - 1) not in (b"\n", b"")
        finally:
            os.close(reader)
    return False
