"""No write waits for a reader, whatever the descriptor is, and its flags stay as they are."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import socket
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_canonical.process import descriptors
from otel_canonical.process.descriptors import NOWHERE, PIPE_BUF, Outlet, open_outlet, write_text
from tests.support.descriptors import (
    FOREIGN_KINDS,
    KINDS,
    as_nobody,
    connected,
    needs_root,
    read_now,
    soon,
)
from tests.support.forks import quiet_fork

#: More than any of them holds.
MANY = 100_000


def lines_until_full(outlet: Outlet, numbers: Iterator[int]) -> list[bytes]:
    """Return the lines that an outlet took before it was full."""
    taken: list[bytes] = []
    for _ in range(MANY):
        line = b"%d %s\n" % (number := next(numbers), b"x" * (number % 700))
        try:
            count = soon(lambda line=line: outlet.write(outlet.fd, line))
        except BlockingIOError:
            return taken
        if count < len(line):  # a terminal takes what it has room for
            taken.append(line[:count])
            return taken
        taken.append(line)
    raise AssertionError("it is never full")


def takes(outlet: Outlet, data: bytes) -> bool:
    """Return whether an outlet takes any of it."""
    try:
        return soon(lambda: outlet.write(outlet.fd, data)) > 0
    except BlockingIOError:
        return False


def assert_never_waits(reader: int, writer: int, outlet: Outlet) -> None:
    """Fill and empty an outlet, twice."""
    numbers = itertools.count()
    for _ in range(2):
        taken = lines_until_full(outlet, numbers)
        assert taken
        while takes(outlet, b"y" * PIPE_BUF):
            pass
        received = read_now(reader)
        assert received.startswith(b"".join(taken))
        assert set(received[len(b"".join(taken)) :]) <= set(b"y")
    assert os.get_blocking(writer)


@pytest.mark.parametrize("kind", KINDS)
def test_write_never_waits(kind: str, tmp_path: Path) -> None:
    """Of a full output the writer learns at once; the stream that others share stays blocking."""
    with connected(kind, tmp_path) as (reader, writer):
        outlet = open_outlet(writer)
        assert_never_waits(reader, writer, outlet)
        assert not os.get_inheritable(outlet.fd)
        outlet.close()
        os.fstat(writer)  # still open


@needs_root
@pytest.mark.parametrize("kind", FOREIGN_KINDS)
def test_write_never_waits_when_it_is_another_users(kind: str, tmp_path: Path) -> None:
    """A descriptor that this process may use and not open: no description of our own."""
    with connected(kind, tmp_path) as (reader, writer):
        with as_nobody():
            outlet = open_outlet(writer)
        assert outlet.fd == writer
        assert_never_waits(reader, writer, outlet)


@needs_root
def test_write_never_waits_when_others_splice(tmp_path: Path) -> None:
    """A pipe into which somebody has spliced knows `RWF_NOWAIT` no more."""
    with connected("pipe", tmp_path) as (reader, writer):
        with as_nobody():
            first, second = open_outlet(writer), open_outlet(writer)
        assert first.write(writer, b"by flag\n") == 8
        assert descriptors._splice(writer, b"spliced\n") == 8
        assert read_now(reader) == b"by flag\nspliced\n"
        for outlet in (first, second):
            assert_never_waits(reader, writer, outlet)


@needs_root
@pytest.mark.parametrize("kind", ["pipe", "FIFO"])
def test_lines_of_threads_are_whole_when_pipe_is_another_users(kind: str, tmp_path: Path) -> None:
    """Threads share the pipes that lines are spliced from, and no line gets into another."""
    threads, each = 8, 200
    taken: list[bytes] = []
    received: list[bytes] = []
    with connected(kind, tmp_path) as (reader, writer):
        with as_nobody():
            outlet = open_outlet(writer)

        def write(thread: int) -> None:
            for number in range(each):
                line = b"%d-%d %s\n" % (thread, number, b"z" * (7 * number))
                while True:
                    try:
                        assert outlet.write(outlet.fd, line) == len(line)
                    except BlockingIOError:
                        descriptors.has_room(outlet.fd, 1000)
                        continue
                    taken.append(line)
                    break

        def read() -> None:
            while chunk := os.read(reader, 1 << 16):
                received.append(chunk)

        listener = threading.Thread(target=read)
        writers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
        for thread in (listener, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        os.close(writer)
        listener.join()
    assert len(taken) == threads * each
    assert sorted(b"".join(received).splitlines(keepends=True)) == sorted(taken)


@needs_root
def test_nothing_is_left_of_a_line_that_an_exception_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal's handler may raise at any moment: what was not spliced must not precede the next line."""
    # Ignored in a job that a shell has put into the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with connected("FIFO", tmp_path) as (reader, writer):
        with as_nobody():
            outlet = open_outlet(writer)
        with monkeypatch.context() as patch:
            patch.setattr(os, "splice", lambda *args, **kwargs: signal.raise_signal(signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                outlet.write(outlet.fd, b"cut off\n")
        signal.signal(signal.SIGINT, before)
        outlet.write(outlet.fd, b"next\n")
        assert read_now(reader) == b"next\n"


@needs_root
def test_child_splices_from_pipes_of_its_own(tmp_path: Path) -> None:
    """After a fork the parent's pipes are closed: two processes would mix their lines in them."""
    with connected("FIFO", tmp_path) as (reader, writer):
        with as_nobody():
            outlet = open_outlet(writer)
        outlet.write(outlet.fd, b"parent\n")
        kept = list(descriptors._spare_pipes)
        assert kept
        if not (child := quiet_fork()):
            try:
                are_closed = not descriptors._spare_pipes
                for end in itertools.chain(*kept):
                    are_closed = are_closed and not os.path.exists(f"/proc/self/fd/{end}")
                outlet.write(outlet.fd, b"child\n")
                os._exit(0 if are_closed else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert descriptors._spare_pipes == kept
        assert read_now(reader) == b"parent\nchild\n"


@needs_root
def test_terminal_of_the_process_is_opened_for_any_user(tmp_path: Path) -> None:
    """`docker run -t` with `gosu`: the terminal is root's, but it is ours, too."""
    with connected("terminal", tmp_path) as (reader, writer):
        if not (child := quiet_fork()):
            try:
                os.setsid()
                fcntl.ioctl(writer, termios.TIOCSCTTY, 0)
                with as_nobody():
                    outlet = open_outlet(writer)
                assert outlet.fd != writer
                assert not os.get_blocking(outlet.fd)
                outlet.write(outlet.fd, b"on the terminal\n")
                os._exit(0)
            except BaseException as error:  # noqa: BLE001  # told by the status
                print(error, file=sys.stderr)
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert read_now(reader) == b"on the terminal\n"


def test_socket_does_not_wait_when_there_is_a_default_timeout(tmp_path: Path) -> None:
    """`socket.setdefaulttimeout` of an app would make a socket object wait, and the stream non-blocking."""
    with connected("socket", tmp_path) as (reader, writer):
        socket.setdefaulttimeout(300)
        try:
            outlet = open_outlet(writer)
            assert socket.getdefaulttimeout() == 300
        finally:
            socket.setdefaulttimeout(None)
        assert_never_waits(reader, writer, outlet)
        outlet.close()


@pytest.mark.parametrize("name", ["/dev/null", "file"])
def test_file_or_device_is_used_as_it_is(name: str, tmp_path: Path) -> None:
    """Nothing there waits for a reader, and a file's offset is shared with whoever else writes there."""
    writer = os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT)
    outlet = open_outlet(writer)
    assert (outlet.fd, outlet.write) == (writer, os.write)
    outlet.close()
    os.close(writer)


def test_descriptor_that_is_closed_is_refused() -> None:
    """The caller says what it does instead."""
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        open_outlet(writer)
    assert not write_text(writer, b"lost\n")


def test_nowhere_takes_nothing() -> None:
    """And fails at nothing."""
    assert NOWHERE.write(NOWHERE.fd, b"x") == 0
    NOWHERE.close()


def test_text_is_written_by_lines(tmp_path: Path) -> None:
    """A long text is written in parts that a pipe doesn't tear; what has no room is left out whole."""
    text = b"".join(b"%d %s\n" % (number, b"t" * 1000) for number in range(20))
    with connected("pipe", tmp_path) as (reader, writer):
        assert soon(lambda: write_text(writer, text))
        assert read_now(reader) == text
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 2 * PIPE_BUF)
        assert not soon(lambda: write_text(writer, text))
        received = read_now(reader)
        assert received
        assert received == b"".join(text.splitlines(keepends=True)[: received.count(b"\n")])


def test_text_is_written_when_a_line_is_long(tmp_path: Path) -> None:
    """A line of more than PIPE_BUF bytes goes out in parts."""
    with connected("pipe", tmp_path) as (reader, writer):
        text = b"l" * (2 * PIPE_BUF + 5) + b"\nend\n"
        assert write_text(writer, text)
        assert read_now(reader) == text


def test_text_for_nobody_is_given_up(tmp_path: Path) -> None:
    """A reader that is gone is no error of the caller's."""
    with connected("pipe", tmp_path) as (reader, writer):
        os.close(reader)
        assert not write_text(writer, b"lost\n")


def test_listening_socket_is_told_from_others(tmp_path: Path) -> None:
    """A new arbiter inherits its listeners under the numbers that they had."""
    with socket.socket() as listener, connected("socket", tmp_path) as (_, writer):
        assert not descriptors.is_listening(listener.fileno())
        listener.listen()
        assert descriptors.is_listening(listener.fileno())
        assert not descriptors.is_listening(writer)
        assert not descriptors.is_listening(1 << 20)
