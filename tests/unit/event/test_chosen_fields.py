"""The operator's choice of a line's fields, and of their order."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from otel_canonical.event import logfmt
from otel_canonical.event.chosen_fields import KNOWN_KEYS_LIMIT, LineFields, without_excluded
from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.event.line_writer import LineWriter
from otel_canonical.event.output import LineOutput

PAIRS = [
    ("ts", "2026-01-01T00:00:00.000Z"),
    ("event_type", "request"),
    ("req_method", "GET"),
    ("req_path", "/a b/"),
    ("resp_status", 200),
    ("resp_time", 0.5),
    ("app_plan", "pro"),
    ("req_id", "abc"),
]


@pytest.mark.parametrize(
    ("excluded", "left_out"),
    [
        (None, set()),
        ("req_.*", {"req_method", "req_path", "req_id"}),
        (".*", {key for key, _ in PAIRS if key != "event_type"}),
    ],
)
def test_excluded_fields_are_left_out(excluded: str | None, left_out: set[str]) -> None:
    """But for the type of the event; all others stay where they are."""
    pattern = re.compile(excluded) if excluded is not None else None
    expected = tuple(pair for pair in PAIRS if pair[0] not in left_out)
    assert without_excluded(PAIRS, pattern) == expected


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        (["resp_time", "req_path"], ["resp_time", "req_path"]),
        (["req_id", "resp_*"], ["req_id", "resp_status", "resp_time"]),
        (["app_*", "*"], ["app_plan", *[key for key, _ in PAIRS[2:] if key != "app_plan"]]),
        (["req_path", "event_type", "ts"], ["req_path"]),
        (["nothing_*"], []),
    ],
)
def test_line_has_chosen_fields_in_chosen_order(globs: list[str], expected: list[str]) -> None:
    """Those of one glob stay in their own order; `ts` and `event_type` are always in front."""
    chosen = LineFields(globs).chosen(PAIRS)
    assert [key for key, _ in chosen] == ["ts", "event_type", *expected]
    assert set(chosen) <= set(PAIRS)


@pytest.mark.parametrize("format_", ["logfmt", "json"])
def test_formats_have_the_same_choice(format_: str, tmp_path: Path) -> None:
    """The order holds for both, and the event itself stays whole."""
    path = tmp_path / "lines"
    event = CanonicalEvent.of_pairs(EventType.REQUEST, PAIRS)
    LineWriter(LineOutput(str(path)), format_, 4096, fields=("req_path", "resp_status")).emit(event)
    text = path.read_text()
    line = json.loads(text) if format_ == "json" else logfmt.parse(text)
    assert list(line) == ["ts", "event_type", "req_path", "resp_status"]
    assert list(event.pairs) == PAIRS


def test_too_long_line_has_chosen_fields_only(tmp_path: Path) -> None:
    """What isn't wanted takes no room, and doesn't come back when a line is shortened."""
    path = tmp_path / "lines"
    pairs = [*PAIRS, ("req_user_agent", "x" * 9000)]
    event = CanonicalEvent.of_pairs(EventType.REQUEST, pairs)
    LineWriter(LineOutput(str(path)), "logfmt", 512, fields=("req_user_agent", "req_id")).emit(
        event
    )
    text = path.read_text()
    assert list(logfmt.parse(text)) == ["ts", "event_type", "req_user_agent", "req_id", "truncated"]
    assert len(text) <= 512


def test_memory_is_bounded_when_app_makes_up_keys() -> None:
    """Decisions are remembered for so many keys only."""
    chosen = LineFields(["app_*"])
    for number in range(3 * KNOWN_KEYS_LIMIT):
        assert chosen.chosen([(f"app_{number}", number)]) == [(f"app_{number}", number)]
    assert len(chosen._places) <= KNOWN_KEYS_LIMIT
