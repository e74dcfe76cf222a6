"""LineOutput by itself: whole lines or none, and never a wait for each."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_canonical import internal_errors
from otel_canonical.event import output, patience
from otel_canonical.event.output import LineOutput, report
from otel_canonical.event.patience import PATIENCE_MS
from otel_canonical.event.targets import STANDARD_STREAMS
from otel_canonical.process import descriptors
from tests.support.lines import PIPE_BUF, pipe


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, BaseException | None]]:
    """What LineOutput reports."""
    seen: list[tuple[str, BaseException | None]] = []
    monkeypatch.setattr(output, "report", lambda doing, error=None: seen.append((doing, error)))
    return seen


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a full output up at once."""
    monkeypatch.setattr(patience, "PATIENCE_MS", 0)


@contextlib.contextmanager
def output_to(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[LineOutput]:
    """Make a LineOutput whose standard output is this descriptor."""
    monkeypatch.setitem(STANDARD_STREAMS, "stdout", descriptor)
    output = LineOutput("stdout")
    try:
        yield output
    finally:
        output.close()


@pytest.mark.usefixtures("no_patience")
def test_full_pipe_drops_whole_lines_and_counts_them(
    monkeypatch: pytest.MonkeyPatch, reports: list[tuple[str, BaseException | None]]
) -> None:
    """What is in the pipe is whole, and `written` and `dropped` say how many lines are not."""
    line = b"x" * 1000 + b"\n"
    with pipe() as (reader, writer):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BUF)
        with output_to(writer, monkeypatch) as output:
            for _ in range(6):
                output.write(line)
            assert os.read(reader, 65536) == line * output.written
            assert (output.written, output.dropped) == (4, 2)
            output.write(line)
            assert os.read(reader, 65536) == line
    # One text for all: `report` would take another text for something new.
    assert [doing for doing, _ in reports] == ["writing a line to stdout"] * 2
    assert all(isinstance(error, BlockingIOError) for _, error in reports)


@pytest.mark.usefixtures("reports")
def test_only_first_line_waits_when_pipe_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that hangs holds one request up for a moment, not every one; when it is back, again one."""
    waited_ms: list[int] = []

    def has_room(descriptor: int, wait_ms: int) -> bool:
        waited_ms.append(wait_ms)
        return False

    monkeypatch.setattr(descriptors, "has_room", has_room)
    line = b"x" * (PIPE_BUF - 1) + b"\n"
    with pipe() as (reader, writer):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BUF)
        with output_to(writer, monkeypatch) as output:
            for _ in range(2):
                for _ in range(4):
                    output.write(line)
                assert os.read(reader, 65536) == line
    assert waited_ms == [PATIENCE_MS, 0, 0] * 2


def test_stream_of_app_stays_blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe is opened anew for us: what others write there doesn't fail because of us."""
    with pipe() as (_, writer), output_to(writer, monkeypatch) as output:
        assert os.get_blocking(writer)
        assert not os.get_blocking(output._fd)
        assert not os.get_inheritable(output._fd)


def test_line_after_a_torn_one_is_whole(
    tmp_path: Path, reports: list[tuple[str, BaseException | None]]
) -> None:
    """A disk that fills up in the middle of a line spoils this line only, not the next one."""
    file = tmp_path / "lines"
    output = LineOutput(str(file))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # SIGXFSZ is ignored by Python
    try:
        output.write(b"first\n")
        output.write(b"second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    output.write(b"third\n")
    assert file.read_bytes().splitlines() == [b"first", b"seco", b"third"]
    assert (output.written, output.dropped) == (2, 1)
    assert len(reports) == 1


@pytest.mark.usefixtures("no_patience")
def test_socket_that_nobody_reads_costs_lines_only(
    monkeypatch: pytest.MonkeyPatch, reports: list[tuple[str, BaseException | None]]
) -> None:
    """Under systemd standard output is a socket; a journal that hangs must not hang a worker."""
    ours, theirs = socket.socketpair()
    line = b"y" * (PIPE_BUF - 1) + b"\n"
    with ours, theirs, output_to(ours.fileno(), monkeypatch) as output:
        while not output.dropped and output.written < 10_000:
            output.write(line)
        assert output.dropped == 1
        assert os.get_blocking(ours.fileno())
        received = b""
        while len(received) < len(line) * output.written:
            received += theirs.recv(65536)
        assert received == line * output.written
        theirs.close()
        output.write(line)  # and no SIGPIPE
    assert (output.dropped, len(reports)) == (2, 2)
    assert isinstance(reports[-1][1], BrokenPipeError)


def test_file_stays_in_use_when_it_cannot_be_reopened(
    tmp_path: Path, reports: list[tuple[str, BaseException | None]]
) -> None:
    """A rotation that removes the directory costs no line."""
    directory = tmp_path / "logs"
    directory.mkdir()
    output = LineOutput(str(directory / "lines"))
    moved = tmp_path / "moved"
    directory.rename(moved)
    output.reopen()
    output.write(b"still here\n")
    assert (moved / "lines").read_bytes() == b"still here\n"
    assert [type(error) for _, error in reports] == [FileNotFoundError]
    directory.mkdir()
    output.reopen()
    output.write(b"there again\n")
    assert (directory / "lines").read_bytes() == b"there again\n"


def test_report_names_what_was_lost() -> None:
    """LineOutput reports through `internal_errors.report`, so its limit on repetitions holds."""
    assert report is internal_errors.report
