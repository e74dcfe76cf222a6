"""The loader: every value of every line in its column, from any kind of file."""

from __future__ import annotations

import datetime
import gzip
import io
import math
import random
import sys
from pathlib import Path

import pytest
import zstandard

from otel_canonical.event import json_lines, logfmt
from otel_canonical.event.fields import FieldValue
from otel_canonical.reading import json_batches, lines_table, sources
from otel_canonical.reading.columns import COLUMNS
from otel_canonical.reading.events import load
from otel_canonical.reading.problems import CommandFailed
from tests.support.reading import SAMPLE, as_loaded, head, hostile_text, write_lines

FOREIGN = b'Traceback (most recent call last):\n  File "x.py"\n\xff\xfe not UTF-8\r\n\n{"a": 1}\n'


def hostile_events(count: int) -> list[dict[str, FieldValue]]:
    """Return events with hostile texts under known and unknown keys; the same ones each time."""
    rng = random.Random(7)
    return [
        {
            **head(number),
            "req_id": str(number),
            "req_path": hostile_text(rng),
            "exc_msg": hostile_text(rng),
            **({"app_note": hostile_text(rng)} if number % 3 else {}),
            "resp_time": rng.random(),
            "resp_status": rng.choice((200, 404, 500)),
            "client_gone": rng.random() < 0.5,
        }
        for number in range(count)
    ]


def test_hostile_values_arrive_as_the_parser_reads_them(tmp_path: Path) -> None:
    """Thousands of lines with quotes, escapes, `=` and control characters: each value is exact."""
    path = write_lines(tmp_path / "lines.log", hostile_events(3000))
    with load([str(path)]) as events:
        found = events.rows(
            "SELECT req_id, req_path, exc_msg, app_note, resp_time, resp_status, client_gone FROM events"
        )
        assert (events.lines, events.foreign) == (3000, 0)
    expected = {
        parsed["req_id"]: (
            parsed["req_id"],
            as_loaded(parsed["req_path"]),
            as_loaded(parsed["exc_msg"]),
            as_loaded(parsed["app_note"]) if "app_note" in parsed else None,
            float(parsed["resp_time"]),
            int(parsed["resp_status"]),
            parsed["client_gone"] == "true",
        )
        for parsed in map(logfmt.parse, path.read_text(encoding="utf-8").splitlines())
    }
    assert {row[0]: row for row in found} == expected


def test_hostile_values_stay_on_the_fast_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What clients send can't make the loader read a whole chunk line by line."""
    taken: list[int] = []
    monkeypatch.setattr(json_batches, "careful", lambda lines: taken.append(len(lines)))
    path = write_lines(tmp_path / "lines.log", hostile_events(500))
    with load([str(path)]) as events:
        assert events.lines == 500
    assert taken == []


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd", "json", "crlf", "stdin"])
def test_all_kinds_of_files_are_the_same_table(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain, compressed, JSON, with Windows' line ends, by standard input; foreign lines between."""
    lines = SAMPLE.read_bytes()
    path = tmp_path / "lines"
    if kind == "json":
        types = {"BIGINT": int, "DOUBLE": float, "BOOLEAN": lambda text: text == "true"}
        lines = b"".join(
            json_lines.encode(
                (key, types.get(COLUMNS.get(key, ""), str)(value))
                for key, value in logfmt.parse(line).items()
            ).encode()
            + b"\n"
            for line in SAMPLE.read_text().splitlines()
        )
    if kind == "crlf":
        lines = lines.replace(b"\n", b"\r\n")
    content = FOREIGN + lines + FOREIGN
    if kind == "gzip":
        content = gzip.compress(content[:5000]) + gzip.compress(content[5000:])
    if kind == "zstd":
        content = zstandard.compress(content[:5000]) + zstandard.compress(content[5000:])
    path.write_bytes(content)
    name = str(path)
    if kind == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
        name = "-"
    wanted = "SELECT * EXCLUDE (extra) FROM events ORDER BY ts, event_type, req_id"
    with load([str(SAMPLE)]) as events:
        expected = events.rows(wanted)
    with load([name]) as events:
        assert events.rows(wanted) == expected
        assert events.lines == len(expected) >= 30
        assert events.foreign == 10


def test_types_are_those_of_the_fields(tmp_path: Path) -> None:
    """Moments, numbers and booleans are such; what is no number there is absent, not an error."""
    good: dict[str, FieldValue] = {
        **head(5),
        "resp_status": 200,
        "resp_time": 0.25,
        "client_gone": True,
        "app_plan": "pro",
        "app_items": 3,
        "app_price": 1.5,
        "app_vip": False,
        "redis_calls": 2,
        "app_zip": "01067",
    }
    bad = {
        **head(6),
        "resp_status": "abc",
        "resp_time": "nan",
        "client_gone": "x",
        "redis_calls": "y",
    }
    path = write_lines(tmp_path / "lines.log", [good, bad])
    with load([str(path)]) as events:
        rows = events.rows(
            "SELECT ts, resp_status, resp_time, client_gone, app_plan, app_items, app_price, app_vip, "
            "redis_calls, app_zip FROM events ORDER BY ts"
        )
        assert events.extra["app_items"] == "BIGINT"
    at = datetime.datetime(2026, 11, 26, 10, 0, 5)  # noqa: DTZ001 - DuckDB's TIMESTAMP has no zone
    assert rows[0] == (at, 200, 0.25, True, "pro", 3, 1.5, False, 2, "01067")
    assert rows[1][1:] == (None,) * 9


def test_keys_beyond_the_limit_are_in_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that invents keys can't make a table that is too wide; `A` and `a` are two keys."""
    monkeypatch.setattr(lines_table, "MOST_EXTRA_COLUMNS", 2)
    events_written: list[dict[str, FieldValue]] = [
        {**head(1), "app_a": 1, "app_A": 2},
        {**head(2), "app_b": 3, "app_c": 4},
    ]
    path = write_lines(tmp_path / "lines.log", events_written)
    with load([str(path)]) as events:
        rows = events.rows("SELECT app_a, app_b, extra FROM events ORDER BY ts")
    assert rows == [(1, None, {"app_A": "2"}), (None, 3, {"app_c": "4"})]


def test_a_key_twice_is_the_last_of_them(tmp_path: Path) -> None:
    """As every reader of logfmt takes it, whether the key is known or not."""
    path = tmp_path / "lines.log"
    path.write_text(
        "ts=2026-11-26T10:00:00Z event_type=request resp_status=200 app_a=1 resp_status=500 app_a=2\n"
    )
    with load([str(path)]) as events:
        assert events.rows("SELECT resp_status, app_a FROM events") == [(500, 2)]


def test_lines_across_chunks_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a chunk ends is no end of a line; the last line may lack its newline."""
    path = write_lines(tmp_path / "lines.log", hostile_events(200))
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(sources.chunks, "__defaults__", (1000,))
    with load([str(path)]) as events:
        assert (events.lines, events.foreign) == (200, 0)
        assert math.isclose(
            events.row("SELECT sum(resp_time) FROM events")[0],
            sum(float(str(event["resp_time"])) for event in hostile_events(200)),
        )


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A missing file, a directory and a torn archive end with one sentence that names the file."""
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(SAMPLE.read_bytes())[:-20])
    for path in (tmp_path / "missing", tmp_path, torn):
        with pytest.raises(CommandFailed, match=str(path)), load([str(path)]):
            pass
