"""LineWriter: each event is one line in the operator's format, and every line is counted once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.event.line_writer import LineWriter, open_line_writer
from otel_canonical.event.output import LineOutput
from otel_canonical.event.rows import PlainRow
from otel_canonical.pool.counters import COUNTS, DROPPED, SHORTENED, no_counts
from otel_canonical.process.identity import own
from otel_canonical.settings import Settings

PAIRS = (("ts", "t"), ("event_type", "slow"), ("req_path", "/a b/"), ("resp_status", 200))
EVENT = CanonicalEvent.of_pairs(EventType.SLOW, PAIRS)


def a_writer(
    directory: Path, format_: str = "logfmt", max_bytes: int = 4096, *fields: str
) -> LineWriter:
    """Return a writer into a file."""
    return LineWriter(LineOutput(str(directory / "lines")), format_, max_bytes, None, fields)


def test_line_is_in_the_operators_format(tmp_path: Path) -> None:
    """With all fields, or with those that the operator has named."""
    plain = b'ts=t event_type=slow req_path="/a b/" resp_status=200\n'
    assert a_writer(tmp_path).encode(EVENT) == plain
    assert json.loads(a_writer(tmp_path, "json").encode(EVENT)) == dict(PAIRS)
    chosen = a_writer(tmp_path, "logfmt", 4096, "resp_status").encode(EVENT)
    assert chosen == b"ts=t event_type=slow resp_status=200\n"
    chosen = a_writer(tmp_path, "json", 4096, "resp_status").encode(EVENT)
    assert list(json.loads(chosen)) == ["ts", "event_type", "resp_status"]


@pytest.mark.parametrize(("more", "is_shortened"), [(0, False), (1, True)])
def test_line_of_the_greatest_length_is_whole(
    more: int, is_shortened: bool, tmp_path: Path
) -> None:
    """Its newline included; one byte more, and it is shortened and counted."""
    writer = a_writer(tmp_path, "logfmt", 600)
    padding = "x" * (600 - len("event_type=slow req_path=\n") + more)
    event = CanonicalEvent.of_pairs(EventType.SLOW, [("event_type", "slow"), ("req_path", padding)])
    line = writer.encode(event)
    assert (len(line) <= 600, line.endswith(b" truncated=true\n")) == (True, is_shortened)
    assert writer.counts[SHORTENED] == is_shortened


def test_value_that_a_row_cannot_write_is_written_the_slow_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app may answer with any object as its status."""
    monkeypatch.setenv("OTEL_CANONICAL_STRICT", "0")
    event = CanonicalEvent(EventType.SLOW, [(PlainRow("resp_status"), ("200 x=1",))])
    assert a_writer(tmp_path).encode(event) == b'resp_status="200 x=1"\n'


def test_each_line_is_counted_by_its_type(tmp_path: Path) -> None:
    """And as dropped, if it was; a fork of the process writes and counts none."""
    writer = a_writer(tmp_path)
    writer.emit(EVENT)
    writer.emit(EVENT)
    writer.output.write = lambda line, slot=None: False  # type: ignore[method-assign]
    writer.emit(EVENT)
    before, own[0] = own[0], 0
    try:
        writer.emit(EVENT)
    finally:
        own[0] = before
    expected = no_counts()
    expected[COUNTS.index("slow")], expected[DROPPED] = 3, 1
    assert [*writer.counts] == expected
    assert len((tmp_path / "lines").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("target", "is_daemon", "is_said"),
    [("null", True, True), ("null", False, False), ("lines", True, False)],
)
def test_daemon_whose_lines_go_nowhere_says_so(
    target: str, is_daemon: bool, is_said: bool, tmp_path: Path
) -> None:
    """Its stdout is the null device; a test of a load may want that, in the foreground."""
    (tmp_path / "null").symlink_to(os.devnull)
    warnings: list[str] = []
    cfg = SimpleNamespace(uid=os.geteuid(), gid=os.getegid(), daemon=is_daemon)
    path = str(tmp_path / target)
    writer = open_line_writer(Settings(output=path), cfg, no_counts(), warnings.append)
    writer.output.close()
    assert (
        warnings
        == [
            f"OTEL_PYTHON_CANONICAL_OUTPUT={path!r} is /dev/null in a daemon, so nobody will read the "
            "lines; set it to the path of a file"
        ]
        * is_said
    )
