"""How long an output may hold a process up, and where lines go when a standard stream is closed."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from otel_canonical.event import output, patience
from otel_canonical.event.line_writer import open_line_writer
from otel_canonical.event.output import LineOutput
from otel_canonical.event.patience import PATIENCE_MS, PATIENCE_SHARE
from otel_canonical.event.targets import STANDARD_STREAMS
from otel_canonical.pool.counters import no_counts
from otel_canonical.process import descriptors
from otel_canonical.settings import Settings
from tests.support.descriptors import KINDS, NOBODY, connected, needs_root, read_now, soon
from tests.support.forks import exit_status, fork

VARIABLE = "OTEL_PYTHON_CANONICAL_OUTPUT"


@pytest.fixture(autouse=True)
def reports(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What LineOutput reports."""
    seen: list[BaseException | None] = []
    monkeypatch.setattr(output, "report", lambda doing, error=None: seen.append(error))
    return seen


def opened(target: str, worker: int | None = None) -> tuple[LineOutput, list[str]]:
    """Return the output that an operator gets, whose workers run as a user, and what is said about it."""
    warnings: list[str] = []
    uid, gid = (os.geteuid(), os.getegid()) if worker is None else (worker, worker)
    cfg = SimpleNamespace(uid=uid, gid=gid, daemon=False)
    writer = open_line_writer(Settings(output=target), cfg, no_counts(), warnings.append)
    return writer.output, warnings


def test_slow_reader_holds_a_process_up_for_a_small_part_of_its_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A reader that always has room a moment later must not make every request wait for that moment."""
    now, waited_ms = [1000.0], [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])

    def has_room(descriptor: int, wait_ms: int) -> bool:
        took_ms = min(wait_ms, 50)
        now[0] += took_ms / 1000
        waited_ms[0] += took_ms
        if took_ms == 50:
            read_now(reader)
        return took_ms == 50

    monkeypatch.setattr(descriptors, "has_room", has_room)
    with connected("pipe", tmp_path) as (reader, writer):
        monkeypatch.setitem(STANDARD_STREAMS, "stdout", writer)
        lines = LineOutput("stdout")
        started = now[0]
        for _ in range(2000):
            lines.write(b"x" * 4095 + b"\n")
            now[0] += 0.001
        lines.close()
    assert waited_ms[0] <= PATIENCE_MS + (now[0] - started) * 1000 * PATIENCE_SHARE
    assert waited_ms[0] >= PATIENCE_MS
    assert lines.dropped > 0


@pytest.mark.parametrize("kind", KINDS)
def test_hung_reader_holds_a_process_up_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that have no room cost nothing after the first one; what was taken is whole."""
    waits: list[int] = []
    #: Of each wait: the lines written before it, and whether there was room.
    outcomes: list[tuple[int, bool]] = []
    real = descriptors.has_room

    def has_room(descriptor: int, wait_ms: int) -> bool:
        waits.append(wait_ms)
        outcomes.append((lines.written, real(descriptor, min(wait_ms, 1))))
        return outcomes[-1][1]

    monkeypatch.setattr(descriptors, "has_room", has_room)
    with connected(kind, tmp_path) as (reader, writer):
        monkeypatch.setitem(STANDARD_STREAMS, "stdout", writer)
        lines = LineOutput("stdout")
        line = b"event_type=request " + b"x" * 700 + b" end\n"
        while lines.dropped < 5:
            soon(lambda: lines.write(line))
        received = read_now(reader)
        assert lines.write(line)
        assert read_now(reader).strip(b"\n") == line.strip()
        lines.close()
    for (written, had_room), (written_since, _), wait in zip(
        outcomes[:-1], outcomes[1:], waits[1:], strict=True
    ):
        # Behind a wait in vain there is none before a line was written.
        assert had_room or written_since > written or not wait
    costly = [wait for wait in waits if wait]
    # In a terminal room may come again, see below: a line is written, and the next one waits, too.
    assert kind == "terminal" or costly == waits[: len(costly)]
    assert len(costly) <= 2  # a terminal takes a part of a line
    whole = [text for text in received.splitlines(keepends=True) if text == line]
    assert len(whole) == lines.written - 1
    parts = [text.rstrip(b"\n") for text in received.splitlines(keepends=True) if text != line]
    assert all(line.startswith(part) for part in parts)
    # Room may come again behind a part: the kernel hands on what a terminal has taken, in its own time.
    assert len(parts) <= 2


@pytest.mark.parametrize("target", ["stdout", "-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_names_of_standard_output(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gunicorn's own options say `-`, containers `/dev/stdout`; the file of that name is not made."""
    monkeypatch.chdir(tmp_path)
    with connected("socket", tmp_path) as (reader, writer):
        monkeypatch.setitem(STANDARD_STREAMS, "stdout", writer)
        lines, warnings = opened(target)
        assert lines.write(b"line\n")
        assert read_now(reader) == b"line\n"
        lines.reopen()
        assert lines.write(b"line\n")
        lines.close()
    assert (lines.target, warnings, list(tmp_path.iterdir())) == ("stdout", [], [])


@pytest.mark.parametrize("target", ["stderr", "/dev/stderr", "/dev/fd/2"])
def test_names_of_standard_error(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the other stream."""
    with connected("socket", tmp_path) as (reader, writer):
        monkeypatch.setitem(STANDARD_STREAMS, "stderr", writer)
        lines, _ = opened(target)
        assert lines.write(b"line\n")
        assert read_now(reader) == b"line\n"
        lines.close()
    assert lines.target == "stderr"


def test_other_descriptor_that_the_server_was_started_with(tmp_path: Path) -> None:
    """`gunicorn 7>&1`: a socket, too, which could not be opened by its path."""
    with connected("socket", tmp_path) as (reader, writer):
        os.set_inheritable(writer, True)
        lines, warnings = opened(f"/dev/fd/{writer}")
        assert lines.write(b"line\n")
        assert read_now(reader) == b"line\n"
        assert warnings == []
        lines.close()
        os.fstat(writer)


def test_descriptor_that_python_opened_is_no_output(tmp_path: Path) -> None:
    """Its number is what was free: it is a broker's connection or Gunicorn's own pipe."""
    with connected("pipe", tmp_path) as (_, writer):
        lines, [warning] = opened(f"/dev/fd/{writer}")
        assert warning == (
            f"{VARIABLE}='/dev/fd/{writer}' can't be opened (Bad file descriptor); "
            "using the default, stdout"
        )
        assert (lines.target, lines.is_substitute) == ("stdout", True)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("why", ["none", "listening", "bad"])
def test_closed_stream_is_said_and_not_written_to(
    stream: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    reports: list[BaseException | None],
) -> None:
    """What got its number is not ours to write to; each line counts as not written, and nothing fails."""
    with connected("socket", tmp_path) as (reader, writer):
        if why == "none":
            monkeypatch.setattr(sys, f"__{stream}__", None)
        if why == "listening":
            monkeypatch.setattr(descriptors, "is_listening", lambda fd: fd == writer)
        if why == "bad":
            os.close(writer)
        monkeypatch.setitem(STANDARD_STREAMS, stream, writer)
        lines, [warning] = opened(stream)
        assert not lines.write(b"line\n")
        assert not lines.write(b"line\n")
        assert read_now(reader) == b""
        lines.reopen()
        lines.close()
    assert warning == (
        f"{VARIABLE}='{stream}' was closed when the server was started, so lines are written "
        "nowhere; set it to the path of a file"
    )
    assert (lines.written, lines.dropped, reports) == (0, 2, [])
    assert lines.described() == f"{stream} (closed: they go nowhere)"
    assert not lines.is_same_file(0)


@needs_root
def test_new_file_belongs_to_the_workers_where_the_arbiter_is_root(tmp_path: Path) -> None:
    """They have dropped its privileges when they open it again."""
    lines, _ = opened(str(tmp_path / "lines"), NOBODY)
    lines.close()
    found = (tmp_path / "lines").stat()
    assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY)


def with_number_0(descriptor: int, do: Callable[[LineOutput], None]) -> None:
    """Call a function with the output `/dev/fd/0`, in a process that has this descriptor there."""

    def child() -> None:
        os.dup2(descriptor, 0)
        lines, warnings = opened("/dev/fd/0")
        assert (warnings, lines.is_closed(), lines.described()) == ([], False, "/dev/fd/0")
        assert lines.is_same_file(0)
        do(lines)

    assert exit_status(fork(child)) == 0


def test_file_with_number_0_is_an_output_like_any_other(tmp_path: Path) -> None:
    """A full disk tears a line, and the next one begins with a newline."""

    def writes(lines: LineOutput) -> None:
        assert lines.write(b"first\n")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # SIGXFSZ is ignored by Python
        assert not lines.write(b"second\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        other = LineOutput(str(tmp_path / "lines"))
        assert other.write(b"third\n")
        other.tear()
        assert lines.write(b"fourth\n")
        assert (lines.written, lines.dropped, lines.is_null()) == (2, 1, False)

    with (tmp_path / "lines").open("ab") as file:
        with_number_0(file.fileno(), writes)
    assert (tmp_path / "lines").read_bytes() == b"first\nseco\nthird\n\nfourth\n"


def test_null_device_with_number_0_is_known(tmp_path: Path) -> None:
    """Lines for it need not be made."""

    def is_null(lines: LineOutput) -> None:
        assert lines.is_null()

    with open(os.devnull, "wb") as null:
        with_number_0(null.fileno(), is_null)


def test_socket_with_number_0_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has room a moment later: no line is lost."""
    line = b"x" * 4095 + b"\n"
    waited_for: list[int] = []

    def has_room(descriptor: int, wait_ms: int) -> bool:
        waited_for.append(descriptor)
        return bool(read_now(reader))

    def writes(lines: LineOutput) -> None:
        while not waited_for:
            assert lines.write(line)
        assert (waited_for, lines.dropped) == ([0], 0)

    monkeypatch.setattr(descriptors, "has_room", has_room)
    with connected("socket", tmp_path) as (reader, writer):
        with_number_0(writer, writes)


def test_fifo_without_reader_is_said(tmp_path: Path) -> None:
    """With the variable, its value, and what is used instead."""
    os.mkfifo(tmp_path / "fifo")
    lines, [warning] = soon(lambda: opened(str(tmp_path / "fifo")))
    assert warning == (
        f"{VARIABLE}='{tmp_path}/fifo' can't be opened (it is a FIFO that no process reads, or a "
        "socket); using the default, stdout"
    )
    assert lines.target == "stdout"
