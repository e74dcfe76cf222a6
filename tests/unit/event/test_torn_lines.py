"""A line that a full disk has torn spoils no other line, whichever process writes that one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import re
import resource
import select
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_canonical.event import output
from otel_canonical.event.output import LineOutput
from otel_canonical.event.patience import Patience
from otel_canonical.event.targets import STANDARD_STREAMS
from tests.support.descriptors import connected, needs_root, read_now
from tests.support.forks import quiet_fork
from tests.support.servers import eventually


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What LineOutput reports."""
    seen: list[BaseException | None] = []
    monkeypatch.setattr(output, "report", lambda doing, error=None: seen.append(error))
    return seen


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of few pages."""
    with tempfile.TemporaryDirectory(prefix="small-disk-") as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


def write_with_limit(output: LineOutput, line: bytes, limit: int) -> bool:
    """Write while no file may be longer than `limit`: the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # SIGXFSZ is ignored by Python
    try:
        return output.write(line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def in_child(do: object, *args: object) -> None:
    """Call a function in a fork of this process."""
    if not (child := quiet_fork()):
        try:
            os._exit(0 if callable(do) and do(*args) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_another_process_ends_torn_line(tmp_path: Path) -> None:
    """Workers share the file: who writes next doesn't know more than what they share."""
    file = tmp_path / "lines"
    output = LineOutput(str(file))
    in_child(output.write, b"first\n")
    in_child(lambda: not write_with_limit(output, b"second\n", 10))
    assert file.read_bytes() == b"first\nseco"
    in_child(output.write, b"third\n")
    in_child(output.write, b"fourth\n")
    assert file.read_bytes() == b"first\nseco\nthird\nfourth\n"
    output.close()


def test_mark_stays_with_the_file_when_it_is_opened_again(tmp_path: Path) -> None:
    """After a reload old workers write by the old output, and new ones by another."""
    file = tmp_path / "lines"
    old = LineOutput(str(file))
    (tmp_path / "link").symlink_to("lines")
    new = LineOutput(str(tmp_path / "link"))
    for torn, ending in ((old, new), (new, old), (old, old)):
        size = len(file.read_bytes())
        assert not write_with_limit(torn, b"torn line\n", size + 4)
        assert ending.write(b"whole\n")
    assert file.read_bytes() == b"torn\nwhole\n" * 3
    assert old.write(b"and on\n")
    assert new.write(b"and on\n")
    assert file.read_bytes().endswith(b"whole\nand on\nand on\n")
    for one in (old, new):
        one.close()


def test_rotated_file_begins_with_a_line(tmp_path: Path) -> None:
    """What the old file ended with is none of the new file's business."""
    file = tmp_path / "lines"
    output = LineOutput(str(file))
    assert not write_with_limit(output, b"torn line\n", 4)
    file.rename(tmp_path / "rotated")
    output.reopen()
    assert output.write(b"whole\n")
    assert file.read_bytes() == b"whole\n"
    output.close()


@pytest.mark.parametrize("before", [b"", b"whole\n", b"torn"])
def test_torn_line_of_an_earlier_run_is_ended(before: bytes, tmp_path: Path) -> None:
    """Who restarts a server because its disk was full gets whole lines from the first one on."""
    file = tmp_path / "lines"
    file.write_bytes(before)
    output = LineOutput(str(file))
    assert output.write(b"next\n")
    assert file.read_bytes() == before + (b"\n" if before == b"torn" else b"") + b"next\n"
    output.close()


@pytest.fixture
def in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, LineOutput]]]:
    """Make outputs to one socket that takes parts of the given sizes, then all; return its reader, too."""
    with connected("socket", tmp_path) as (reader, writer):
        monkeypatch.setitem(STANDARD_STREAMS, "stdout", writer)

        def make(*sizes: int) -> tuple[int, LineOutput]:
            output, parts = LineOutput("stdout"), iter(sizes)
            monkeypatch.setattr(
                output, "_write", lambda fd, data: os.write(fd, data[: next(parts, len(data))])
            )
            outputs.append(output)
            return reader, output

        outputs: list[LineOutput] = []
        yield make
        for output in outputs:
            output.close()


def test_line_goes_on_when_room_is_back_at_once(
    in_parts: Callable[..., tuple[int, LineOutput]],
) -> None:
    """What is left of a line is written behind it, and the next line needs no newline."""
    reader, output = in_parts(3, 2)
    assert output.write(b"whole line\n")
    assert output.write(b"next\n")
    assert read_now(reader) == b"whole line\nnext\n"
    assert (output.written, output.dropped) == (2, 0)


def test_torn_line_is_ended_when_the_line_that_ends_it_goes_on(
    in_parts: Callable[..., tuple[int, LineOutput]],
) -> None:
    """The newline and a part of the line are written, then the rest; no empty line comes of it."""
    reader, output = in_parts(3)
    output.tear()
    assert output.write(b"whole line\n")
    assert output.write(b"next\n")
    assert read_now(reader) == b"\nwhole line\nnext\n"


def test_rest_of_a_line_is_given_up_when_another_process_has_ended_it(
    in_parts: Callable[..., tuple[int, LineOutput]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stand by itself, behind the other's line."""
    reader, torn = in_parts(4)
    _, other = in_parts()

    def wait_while_another_writes(fd: int) -> None:
        assert other.write(b"other\n")

    with monkeypatch.context() as patch:
        patch.setattr(Patience, "wait_for_room", lambda self, fd: wait_while_another_writes(fd))
        assert not torn.write(b"torn line\n")
    assert torn.write(b"next\n")
    assert read_now(reader) == b"torn\nother\nnext\n"
    assert (torn.written, torn.dropped) == (1, 1)


def test_rest_of_a_line_is_given_up_when_a_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: list[BaseException | None]
) -> None:
    """Room may be back at once, but another process may write there first."""
    file = tmp_path / "lines"
    output = LineOutput(str(file))
    with monkeypatch.context() as patch:
        patch.setattr(output, "_write", lambda fd, data: os.write(fd, data[:4]))
        assert not output.write(b"torn line\n")
    assert output.write(b"next\n")
    assert file.read_bytes() == b"torn\nnext\n"
    assert [error.errno for error in reports if isinstance(error, OSError)] == [errno.ENOSPC]
    output.close()


def test_new_torn_line_is_not_hidden_by_the_end_of_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a process's write and its mark another line may be torn."""
    file = tmp_path / "lines"
    ending, other = LineOutput(str(file)), LineOutput(str(file))
    assert not write_with_limit(other, b"torn line\n", 4)

    def write_and_meanwhile(fd: int, data: bytes) -> int:
        count = os.write(fd, data)
        assert not write_with_limit(other, b"also torn\n", len(file.read_bytes()) + 4)
        return count

    with monkeypatch.context() as patch:
        patch.setattr(ending, "_write", write_and_meanwhile)
        assert ending.write(b"whole\n")
    assert ending.write(b"next\n")
    # The other one has begun with a newline: it could not know that the torn line was ended.
    assert file.read_bytes() == b"torn\nwhole\n\nals\nnext\n"
    for one in (ending, other):
        one.close()


def test_mark_is_never_lost_when_many_lines_are_torn(tmp_path: Path) -> None:
    """The numbers of tears go round, and another process tears lines at the same moment."""
    output = LineOutput(str(tmp_path / "lines"))
    mark = output._mark
    for _ in range(3000):
        output.tear()
        assert mark.is_torn()
    in_child(lambda: mark.tear() != mark.tear())
    assert mark.is_torn()
    for _ in range(3000):
        torn = output.tear()
        assert mark.is_torn()
        output.end_line(torn)
        assert not mark.is_torn()
    output.close()


def test_two_tears_at_the_same_moment_are_two(tmp_path: Path) -> None:
    """One process's mark comes after another's line has ended a tear: it does not look like that one."""
    output = LineOutput(str(tmp_path / "lines"))
    mark, reader, writer = output._mark, *os.pipe()
    mine = mark.tear()

    def tear_and_tell() -> bool:
        return os.write(writer, str(mark.tear()).encode()) > 0

    in_child(tear_and_tell)
    theirs = int(os.read(reader, 100))
    assert theirs != mine
    mark.end(mine)
    assert mark.is_torn()
    mark.end(theirs)
    assert not mark.is_torn()
    os.close(reader)
    os.close(writer)
    output.close()


@pytest.mark.parametrize("torn", [False, True])
def test_opening_a_file_again_hides_no_torn_line(torn: bool, tmp_path: Path) -> None:
    """A reload may look at the end of the file before a worker tears a line; only an empty file is new."""
    file = tmp_path / "lines"
    file.write_bytes(b"whole\n")
    first = LineOutput(str(file))
    if torn:
        first.tear()
    second = LineOutput(str(file))
    assert second._mark.is_torn() is torn
    file.write_bytes(b"")
    third = LineOutput(str(file))
    assert not third._mark.is_torn()
    for one in (first, second, third):
        one.close()


WHOLE = re.compile(rb"event_type=request id=(\d+-\d+) x* end")
WRITERS, ROUNDS = 4, 20


def write_until_closed(output: LineOutput, number: int, stop: int, dropped: mmap.mmap) -> None:
    """Write lines of many lengths; note on a page how many were given up, in a file which were not.

    A worker waits between its lines. One that never does is often stopped right before a write, and the
    limit that the module names is met.
    """
    with (Path(tempfile.gettempdir()) / f"wrote-{os.getppid()}-{number}").open("w") as wrote:
        for count in itertools.count():
            line = f"event_type=request id={number}-{count} {'x' * (count * 37 % 300)} end\n"
            if output.write(line.encode()):
                wrote.write(f"{number}-{count}\n")
            dropped[number] = output.dropped & 0xFF
            if select.select([stop], [], [], 0.001)[0]:
                return


@needs_root
def test_lines_are_whole_when_a_disk_is_full_again_and_again(small_disk: Path) -> None:
    """Four processes, twenty rounds: what was written stands on a line of its own, once."""
    file, filler = small_disk / "lines", small_disk / "filler"
    output = LineOutput(str(file))
    dropped = mmap.mmap(-1, WRITERS)
    with filler.open("wb", buffering=0) as rest, contextlib.suppress(OSError):
        while True:
            rest.write(b"f" * 4096)
    go, stop = os.pipe()
    children = []
    for number in range(WRITERS):
        if not (child := quiet_fork()):
            os.close(stop)
            try:
                write_until_closed(output, number, go, dropped)
            finally:
                os._exit(0)
        children.append(child)
    for _ in range(ROUNDS):
        before = bytes(dropped)
        eventually(
            lambda before=before: all(a != b for a, b in zip(dropped, before, strict=True)),
            lambda: "nothing is given up",
        )
        size = file.stat().st_size
        os.truncate(filler, filler.stat().st_size - 2 * 4096)
        eventually(lambda size=size: file.stat().st_size > size, lambda: "nothing is written")
    os.close(stop)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    output.close()
    wrote: list[bytes] = []
    for number in range(WRITERS):
        kept = Path(tempfile.gettempdir()) / f"wrote-{os.getpid()}-{number}"
        wrote += kept.read_bytes().split()
        kept.unlink()
    lines = file.read_bytes().splitlines()
    whole = [found[1] for line in lines if (found := WHOLE.fullmatch(line))]
    torn = [line for line in lines if not WHOLE.fullmatch(line)]
    assert sorted(whole) == sorted(wrote)
    assert all(line.count(b"event_type=") <= 1 and b"end" not in line for line in torn), torn
