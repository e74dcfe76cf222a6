"""Writes that never wait for a reader, whatever the descriptor is.

Lives in every process. No lock is held, so that signal handlers, threads and greenlets may write at any
moment, and a fork may come at any. What counts is the open file description: standard output is shared
with the application and often with other programs, and `O_NONBLOCK` on it would make their writes fail.

==========================  ==========================================================================
file, device                `os.write`
pipe, FIFO, terminal        `os.write` to a description of our own, by opening `/proc/self/fd/N` anew
socket                      `send` with `MSG_DONTWAIT`
pipe that may not be        `pwritev` with `RWF_NOWAIT`; where the kernel refuses that, `splice` with
opened (another user's)     `SPLICE_F_NONBLOCK` from a pipe of our own
terminal that may not be    `/dev/tty` if it is this process's terminal, else `O_NONBLOCK` for the
opened (another user's)     duration of one write
==========================  ==========================================================================

Nothing here asks whether there is room and then writes without such a flag: another process may take the
room in between, and a terminal that has room for one byte makes a line wait for the rest of its room.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

#: How lines are opened: never waiting for a reader, never becoming the process's terminal.
OPEN_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: Linux writes up to so many bytes to a pipe in one piece.
PIPE_BUF = select.PIPE_BUF

#: What the kernel answers where it doesn't know `RWF_NOWAIT`, or not for this descriptor.
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)

#: Empty pipes of this process, to splice from. A writer takes one out for as long as it needs it.
_spare_pipes: list[tuple[int, int]] = []

#: Writes to a descriptor and returns how many bytes it took; `BlockingIOError` means that it is full.
Write = Callable[[int, bytes], int]


class Outlet(NamedTuple):
    """A descriptor with the function that writes to it, called as `write(fd, data)`."""

    fd: int
    write: Write
    #: Closes what was opened for this outlet, and nothing else.
    close: Callable[[], None]


def _nothing() -> None:
    """Close nothing: the descriptor belongs to somebody else."""


#: Takes no byte and fails at nothing.
NOWHERE = Outlet(-1, lambda fd, data: 0, _nothing)


def open_outlet(fd: int) -> Outlet:
    """Return the way to write to an open descriptor without waiting; its flags stay as they are.

    Raises:
        OSError: the descriptor is not open.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return _socket_outlet(fd)
    is_pipe = stat.S_ISFIFO(mode)
    # The offset of a file belongs to all who share the description, so a file is not opened anew.
    if not is_pipe and not os.isatty(fd):
        return Outlet(fd, os.write, _nothing)
    with contextlib.suppress(OSError):
        own = os.open(f"/proc/self/fd/{fd}", OPEN_FLAGS)
        return Outlet(own, os.write, functools.partial(os.close, own))
    if is_pipe:
        return Outlet(fd, _PipeThatMayNotBeOpened().write, _nothing)
    if _is_terminal_of_process(fd):
        with contextlib.suppress(OSError):
            own = os.open("/dev/tty", OPEN_FLAGS)
            return Outlet(own, os.write, functools.partial(os.close, own))
    if not os.get_blocking(fd):
        return Outlet(fd, os.write, _nothing)
    return Outlet(fd, _write_to_terminal, _nothing)


def has_room(fd: int, wait_ms: int) -> bool:
    """Return whether a descriptor takes bytes again; wait for that at most `wait_ms`."""
    # Not gevent's `poll`, which returns to the hub: half of a line may have been written.
    room = _native_poll()
    room.register(fd, select.POLLOUT)
    return bool(room.poll(wait_ms))


def write_text(fd: int, text: bytes, wait_ms: int = 0) -> bool:
    """Write a text to an open descriptor; return whether it took all of it.

    What is given up is whole lines, except of a line that is longer than `PIPE_BUF`.

    Args:
        fd: the descriptor.
        text: what to write.
        wait_ms: how long to wait when it is full.
    """
    try:
        outlet = open_outlet(fd)
    except OSError:
        return False
    try:
        return all(_write(outlet, part, wait_ms) == len(part) for part in _parts(text))
    except OSError:
        return False
    finally:
        outlet.close()


def _write(outlet: Outlet, data: bytes, wait_ms: int) -> int:
    try:
        return outlet.write(outlet.fd, data)
    except BlockingIOError:
        if not wait_ms or not has_room(outlet.fd, wait_ms):
            raise
    return outlet.write(outlet.fd, data)


def _parts(text: bytes) -> Iterator[bytes]:
    """Split a text at line ends into parts of at most `PIPE_BUF` bytes."""
    while len(text) > PIPE_BUF:
        end = text.rfind(b"\n", 0, PIPE_BUF) + 1 or PIPE_BUF
        yield text[:end]
        text = text[end:]
    yield text


def is_listening(fd: int) -> bool:
    """Return whether a descriptor is a socket that listens."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with _socket_of(fd) as own:
            return bool(own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _socket_of(fd: int) -> socket.socket:
    # With a default timeout a socket object waits, and changes the flags of what it is made for.
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)
    try:
        return socket.socket(fileno=os.dup(fd))
    finally:
        socket.setdefaulttimeout(timeout)


def _socket_outlet(fd: int) -> Outlet:
    own = _socket_of(fd)
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    return Outlet(fd, lambda fd, data: own.send(data, flags), own.close)


class _PipeThatMayNotBeOpened:
    """Writes to a pipe by the two calls that can be told not to wait.

    `RWF_NOWAIT` is the cheaper one, but not for FIFOs, and no more for a pipe into which somebody has
    spliced. A spliced line takes one of the pipe's 16 places, however short it is.
    """

    def __init__(self) -> None:
        self._flag = getattr(os, "RWF_NOWAIT", 0)

    def write(self, fd: int, data: bytes) -> int:
        """Write without waiting."""
        if self._flag:
            try:
                return os.pwritev(fd, (data,), -1, self._flag)
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
            self._flag = 0
        return _splice(fd, data)


def _splice(fd: int, data: bytes) -> int:
    try:
        pipe = _spare_pipes.pop()
    except IndexError:
        pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    source, sink = pipe
    is_empty = False
    try:
        held = os.write(sink, data)
        moved = os.splice(source, fd, held, flags=os.SPLICE_F_NONBLOCK)
        is_empty = moved == held
    finally:
        # What is left in it, of this line, must not go out in front of the next one.
        if is_empty:
            _spare_pipes.append(pipe)
        else:
            os.close(source)
            os.close(sink)
    return moved


def _forget_spare_pipes() -> None:
    """Close the parent's pipes: lines of two processes would get mixed up in them."""
    while _spare_pipes:
        for end in _spare_pipes.pop():
            os.close(end)


os.register_at_fork(after_in_child=_forget_spare_pipes)


def _is_terminal_of_process(fd: int) -> bool:
    """Return whether a descriptor is the controlling terminal, which `/dev/tty` opens for any user."""
    try:
        # Behind the command, which is in parentheses: state, parent, group, session, terminal.
        number = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[4])
    except (OSError, ValueError, IndexError):
        return False
    device = os.fstat(fd).st_rdev
    minor = os.minor(device)
    return number == (minor & 0xFF) | os.major(device) << 8 | (minor & ~0xFF) << 12


def _write_to_terminal(fd: int, data: bytes) -> int:
    """Write to a terminal that can't be opened anew, with `O_NONBLOCK` for the duration of the write.

    Others who write to a full terminal at that moment get EAGAIN. If two of our processes write at that
    moment, one may still wait for room. A kill at that moment leaves `O_NONBLOCK` set until the next line.
    """
    if not has_room(fd, 0):
        raise BlockingIOError(errno.EAGAIN, "the terminal is full")
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        return os.write(fd, data)
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)


def _native_poll() -> select.poll:
    """Return a `poll` object as it is without gevent's monkey-patching."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return select.poll()
    found: select.poll = monkey.get_original("select", "poll")()
    return found
