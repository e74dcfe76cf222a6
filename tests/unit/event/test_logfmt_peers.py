"""Our lines as read by the logfmt parsers of others, in Go and JavaScript."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from otel_canonical.event.logfmt import encode, parse
from tests.support.hostile_texts import PIECES, UNPAIRED_SURROGATES, hostile_events
from tests.support.peers.tools import go_program, node_program

HERE = "tests/support/peers/logfmt"
READ_PATIENCE_S = 60.0
SURROGATE = re.compile("[\ud800-\udfff]")
WITHOUT_BACKSLASH = {"\n": "n", "\r": "r", "\t": "t"}
FEWEST_PRINTABLE_EVENTS = 100  # of the hostile ones, so that the test can't pass for lack of them
Reader = Callable[[list[str]], list[dict[str, Any]]]


def reader(command: list[str]) -> Reader:
    """Return a function that lets this program read lines, all at once."""

    def read(lines: list[str]) -> list[dict[str, Any]]:
        answered = subprocess.run(
            command,
            input="".join([line + "\n" for line in lines]).encode(),
            capture_output=True,
            timeout=READ_PATIENCE_S,
        )
        assert answered.returncode == 0, answered.stderr.decode()
        return [json.loads(answer) for answer in answered.stdout.splitlines()]

    return read


@pytest.fixture(scope="module")
def go_reads() -> Reader:
    """Return the reader built on github.com/go-logfmt/logfmt."""
    return reader([go_program("go-logfmt", HERE, "reader")])


@pytest.fixture(scope="module")
def npm_reads() -> Reader:
    """Return the reader built on the npm package logfmt."""
    return reader(node_program("npm-logfmt", HERE))


def as_npm_reads(value: str) -> str | bool:
    r"""Return what the npm parser makes of a value of ours, by its one difference and its types.

    It drops the backslash of an escape and keeps the rest as it stands: `\"` and `\\` come out
    right, `\n` as `n`, `\u001b` as `u001b`. And `true` and `false` become booleans, also quoted.
    """
    if value in ("true", "false"):
        return value == "true"
    return "".join([WITHOUT_BACKSLASH.get(one) or code_or_itself(one) for one in value])


def code_or_itself(character: str) -> str:
    r"""Return `u001b` for a character that we write as `\u001b`, and any other unchanged."""
    is_escaped = '"\\u' in encode([("k", character)])
    return f"u{ord(character):04x}" if is_escaped else character


def test_go_parser_reads_what_we_wrote(go_reads: Reader) -> None:
    """The Go parser finds the keys and values that were put in, no more and no other ones."""
    events = hostile_events()
    assert go_reads([encode(event.items()) for event in events]) == events


def test_go_parser_reads_repaired_keys(go_reads: Reader) -> None:
    """Whatever a key was made of, the Go parser reads the repaired one, and only that."""
    lines = [encode([(piece, piece)]) for piece in PIECES]
    assert go_reads(lines) == [parse(line) for line in lines]


def test_go_parser_replaces_unpaired_surrogates(go_reads: Reader) -> None:
    """Go strings hold no unpaired surrogate: the parser reads U+FFFD, and all around it intact."""
    events = [{"first": "1", "hostile": value, "last": "2"} for value in UNPAIRED_SURROGATES]
    expected = [{key: SURROGATE.sub("\ufffd", event[key]) for key in event} for event in events]
    assert go_reads([encode(event.items()) for event in events]) == expected


def test_npm_parser_reads_what_we_wrote_but_for_its_escapes(npm_reads: Reader) -> None:
    """The npm parser finds exactly our keys; values differ only where it knows no such escape."""
    events = hostile_events()
    expected = [{key: as_npm_reads(event[key]) for key in event} for event in events]
    assert npm_reads([encode(event.items()) for event in events]) == expected


def test_npm_parser_reads_values_without_control_characters_in_full(npm_reads: Reader) -> None:
    """Values of quotes, backslashes, spaces and equals signs are equal to the last character."""
    events = [
        event
        for event in hostile_events()
        if all(value.isprintable() and value not in ("true", "false") for value in event.values())
    ]
    assert len(events) >= FEWEST_PRINTABLE_EVENTS
    assert npm_reads([encode(event.items()) for event in events]) == events


def test_npm_parser_reads_repaired_keys(npm_reads: Reader) -> None:
    """Whatever a key was made of, the npm parser reads the repaired one, and only that."""
    lines = [encode([(piece, "1")]) for piece in PIECES]
    assert npm_reads(lines) == [parse(line) for line in lines]
