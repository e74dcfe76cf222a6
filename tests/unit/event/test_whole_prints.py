"""What an application prints leaves in whole lines, where our lines go to the same place."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_canonical.event.output import LineOutput
from otel_canonical.event.targets import STANDARD_STREAMS
from otel_canonical.event.whole_prints import keep_apart
from tests.support.descriptors import connected, read_now

LINE = b"event_type=request\n"

BUFFERING: dict[str, Callable[[int], io.TextIOWrapper]] = {
    # As Python makes standard output.
    "none": lambda fd: io.TextIOWrapper(
        io.FileIO(fd, "w", closefd=False), write_through=True, newline="\n"
    ),
    "blocks": lambda fd: io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(fd, "w", closefd=False)), newline="\n"
    ),
    "lines": lambda fd: io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(fd, "w", closefd=False)), newline="\n", line_buffering=True
    ),
}


@pytest.fixture(params=BUFFERING)
def printed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[io.TextIOWrapper, LineOutput, Callable[[], bytes]]]:
    """Standard output, the output of our lines to the same pipe, and what reads it."""
    with connected("pipe", tmp_path) as (reader, writer):
        stream = BUFFERING[request.param](writer)
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setitem(STANDARD_STREAMS, "stdout", writer)
        output = LineOutput("stdout")
        keep_apart(output)
        keep_apart(output)
        yield stream, output, lambda: read_now(reader)
        stream.flush()
        output.close()
        stream.detach()


Printed = tuple[io.TextIOWrapper, LineOutput, Callable[[], bytes]]


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        (["x", "\n"], b"x\n"),
        (["a", " ", "b", "\n"], b"a b\n"),
        (["a\nb", "\n"], b"a\nb\n"),
        (["a\n", "\n"], b"a\n\n"),
        (["", "\n"], b"\n"),
        (["a\nb\nc", "d", "\n", "e\n"], b"a\nb\ncd\ne\n"),
        (["\u00e4", "\n"], "\u00e4\n".encode()),
        (["y\n" * 9000, "z", "\n"], b"y\n" * 9000 + b"z\n"),
    ],
)
def test_line_of_ours_never_stands_in_a_printed_line(
    printed: Printed, texts: list[str], lines: bytes
) -> None:
    """Between any two writes of the application, and whatever they hold."""
    stream, output, read = printed
    received = b""
    for text in texts:
        assert stream.write(text) == len(text)
        output.write(LINE)
        received += read()
    assert received.replace(LINE, b"") == lines
    assert received.count(LINE) == len(texts)
    for line in received.splitlines(keepends=True):
        assert line == LINE or LINE.strip() not in line


def test_print_is_one_write(printed: Printed) -> None:
    """At once, and not when some buffer is full."""
    stream, _, read = printed
    print("a", 1, None, file=stream)
    assert read() == b"a 1 None\n"
    print("{\n}", file=stream)
    assert read() == b"{\n}\n"
    with pytest.raises(ValueError, match="two") as caught:
        raise ValueError("two\nlines")
    traceback.print_exception(caught.value, file=stream)
    assert read().decode().splitlines(keepends=True) == [
        line
        for text in traceback.format_exception(caught.value)
        for line in text.splitlines(keepends=True)
    ]


def test_line_of_ours_stands_alone_when_the_beginning_of_a_line_is_flushed(
    printed: Printed,
) -> None:
    """`print("Connecting... ", end="", flush=True)`; and nothing is changed when ours doesn't come."""
    stream, output, read = printed
    print("Connecting... ", end="", flush=True, file=stream)
    output.write(LINE)
    print("done", file=stream)
    assert read() == b"Connecting... \n" + LINE + b"done\n"
    print("Connecting... ", end="", flush=True, file=stream)
    print("done", flush=True, file=stream)
    output.write(LINE)
    assert read() == b"Connecting... done\n" + LINE


def test_end_of_a_printed_line_leaves_the_tear_of_another_process(printed: Printed) -> None:
    """Two processes flush the beginning of a line; one of them ends its own."""
    stream, output, read = printed
    print("one... ", end="", flush=True, file=stream)
    output.tear()  # as the other process does, after it has written
    print("done", file=stream)
    output.write(LINE)
    assert read() == b"one... done\n\n" + LINE


def test_line_of_ours_stands_alone_when_a_printed_line_is_long(printed: Printed) -> None:
    """A line without an end is not kept for ever."""
    stream, output, read = printed
    received = b""
    for _ in range(50):
        stream.write("\u00e4" * 400)
        output.write(LINE)
        received += read()
    stream.write("\n")
    received += read()
    lines = received.splitlines(keepends=True)
    assert lines.count(LINE) == 50
    assert set(b"".join(line for line in lines if line != LINE).decode()) == {"\u00e4", "\n"}


def test_mistake_of_the_app_is_its_own(printed: Printed) -> None:
    """What is no text is refused as before."""
    stream, _, _ = printed
    with pytest.raises(TypeError, match="write\\(\\) argument must be str, not bytes"):
        stream.write(b"bytes")  # type: ignore[call-overload]


def test_streams_that_go_elsewhere_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With lines in a file there is nothing to keep apart; `PYTHONUNBUFFERED` means what it says."""
    with connected("pipe", tmp_path) as (reader, writer):
        stream = BUFFERING["none"](writer)
        monkeypatch.setattr(sys, "stdout", stream)
        output = LineOutput(str(tmp_path / "lines"))
        keep_apart(output)
        stream.write("at once")
        assert read_now(reader) == b"at once"
        output.close()
        stream.detach()


def test_standard_error_counts_when_it_is_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`2>&1`, or both redirected to the file that our lines go to."""
    file = tmp_path / "lines"
    writer = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stream = BUFFERING["none"](writer)
    monkeypatch.setattr(sys, "stderr", stream)
    output = LineOutput(str(file))
    keep_apart(output)
    stream.write("half ")
    output.write(LINE)
    stream.write("a line\n")
    assert file.read_bytes() == LINE + b"half a line\n"
    output.close()
    stream.detach()
    os.close(writer)


@pytest.mark.parametrize("stream", [None, io.StringIO(), object()])
def test_what_is_no_stream_is_left_alone(
    stream: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application may put what it likes in the place of standard output."""
    monkeypatch.setattr(sys, "stdout", stream)
    output = LineOutput(str(tmp_path / "lines"))
    keep_apart(output)
    output.close()


def test_stream_without_reader_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it holds can't be written; the application learns that, as without us, when it flushes."""
    with connected("pipe", tmp_path) as (reader, writer):
        stream = BUFFERING["blocks"](writer)
        stream.write("held")
        os.close(reader)
        monkeypatch.setitem(STANDARD_STREAMS, "stdout", writer)
        output = LineOutput("stdout")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            keep_apart(output)
        output.close()
        with pytest.raises(BrokenPipeError):
            stream.flush()
        # Or else it would be tried again when it is collected.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
        stream.flush()
