"""The reporter says what it has to say without waiting for a reader."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import pytest

from otel_canonical.reporter import standard_error
from otel_canonical.reporter.standard_error import UnblockedText
from tests.support.descriptors import connected, read_now, soon


def test_text_is_written_by_lines(tmp_path: Path) -> None:
    """So that others who write there don't come in between; the rest when it is flushed."""
    with connected("pipe", tmp_path) as (reader, writer):
        stream = UnblockedText(writer)
        print("a", "b", file=stream, end="")
        assert read_now(reader) == b""
        print(" c\nd", file=stream, end="")
        assert read_now(reader) == b"a b c\n"
        stream.flush()
        stream.flush()
        assert read_now(reader) == b"d"
        assert stream.fileno() == writer


def test_text_is_given_up_when_the_reader_hangs(tmp_path: Path) -> None:
    """A reporter that waits would export no more, and outlive its arbiter."""
    with connected("pipe", tmp_path) as (reader, writer):
        stream = UnblockedText(writer)
        for _ in range(1000):
            soon(lambda: print("x" * 500, file=stream))
        received = read_now(reader)
        print("again \udc80", file=stream)
        assert read_now(reader) == b"again \\udc80\n"
    assert set(received.splitlines()) == {b"x" * 500}


def test_tracebacks_go_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the reporter must be seen."""
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    standard_error.never_wait()
    assert isinstance(sys.stderr, UnblockedText)
    with connected("pipe", tmp_path) as (reader, writer):
        monkeypatch.setattr(sys, "stderr", UnblockedText(writer))
        try:
            raise ValueError("oh")
        except ValueError:
            traceback.print_exc()
        assert read_now(reader).endswith(b"ValueError: oh\n")


def test_closed_standard_error_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be something else's."""
    monkeypatch.setattr(sys, "stderr", None)
    standard_error.never_wait()
    assert sys.stderr is None
