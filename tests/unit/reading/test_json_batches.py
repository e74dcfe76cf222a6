"""Chunks of lines as JSON: for every line what `logfmt.parse` says, whatever is in it."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_canonical.event import json_lines, logfmt
from otel_canonical.reading import json_batches
from otel_canonical.reading.recognise import fields_of
from tests.support.reading import as_loaded, head

KEYS = st.sampled_from(("req_path", "app_note", "exc_msg", "db_n1", "x.y"))
HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(list(' ="\\\n\r\t\x00\x1b{}:,\u2028\ud800\udc00')),
    ),
    max_size=8,
)
VALUES = st.one_of(HOSTILE, st.integers(), st.floats(), st.booleans())
EVENTS = st.lists(st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=5)
#: Not ours: what a torn write or another encoder leaves behind the head of a line.
TAILS = st.lists(
    st.sampled_from(
        [
            " ",
            "  ",
            "=",
            "a",
            "a=",
            'a="',
            '"',
            "\\",
            'a="b"',
            'a="b"c',
            "a=b=c",
            "a=\\n",
            "a=b\\",
            '\\"',
            "é=1",
            "a-b=1",
            "a=1",
            "\t",
            'a="\\x"',
            'a="\\u12"',
            "\x00",
            "a=\ufffd",
            "ts=5",
            '" "',
            '\\\\"',
        ],
    ),
    max_size=6,
).map("".join)


def rows_of(chunk: bytes) -> list[dict[str, str]]:
    """Return the rows of a chunk as a strict reader of JSON takes them, as the loader does."""

    def pairs(found: list[tuple[str, str]]) -> dict[str, str]:
        if len(dict(found)) < len(found):
            raise ValueError("a key twice")
        return dict(found)

    batch = json_batches.batch(chunk)
    for rows in (batch.rows, json_batches.careful(batch.lines), json_batches.parsed(batch.lines)):
        with contextlib.suppress(ValueError):
            text = rows.decode()
            if "\r" in text or "\x00" in text:
                raise ValueError("DuckDB refuses it")
            found = [json.loads(row, object_pairs_hook=pairs) for row in text.split("\n")[:-1]]
            # DuckDB refuses half a character: this raises a ValueError then.
            "".join([value for row in found for value in row.values()]).encode()
            # A value without a key has no column.
            return [{key: row[key] for key in row if key} for row in found]
    raise AssertionError("no way to read it")


def in_order(rows: list[dict[str, str]]) -> list[str]:
    """Return rows in an order of their own: the loader promises none."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows if row)


@given(EVENTS)
@settings(max_examples=300, deadline=None)
def test_our_lines_have_the_values_that_were_written(events: list[dict[str, object]]) -> None:
    """Quotes, escapes, `=`, spaces, line ends, halves of characters: exactly the parser's values."""
    lines = [logfmt.encode({**head(n), **event}.items()) for n, event in enumerate(events)]
    expected = [
        {key: as_loaded(value) for key, value in logfmt.parse(line).items()} for line in lines
    ]
    rows = rows_of("".join(line + "\n" for line in lines).encode())
    assert in_order(rows) == in_order(expected)


@given(st.lists(TAILS, min_size=1, max_size=4))
@settings(max_examples=500, deadline=None)
def test_what_others_wrote_is_read_as_the_parser_reads_it(tails: list[str]) -> None:
    """A chunk with torn and foreign logfmt has for each line what `logfmt.parse` finds in it."""
    lines = [f"ts=1 event_type=request n={n} {tail}" for n, tail in enumerate(tails)]
    expected = [logfmt.parse(line) for line in lines]
    rows = rows_of("".join(line + "\n" for line in lines).encode())
    assert in_order(rows) == in_order(expected)


@given(EVENTS)
@settings(max_examples=100, deadline=None)
def test_json_and_logfmt_are_the_same_rows(events: list[dict[str, object]]) -> None:
    """The same event under the other encoder reads the same, numbers as they are written."""
    whole = [{**head(n), **event} for n, event in enumerate(events)]
    objects = "".join(json_lines.encode(event.items()) + "\n" for event in whole).encode()
    lines = "".join(logfmt.encode(event.items()) + "\n" for event in whole)
    rows = json_batches.careful(objects.split(b"\n")[:-1]).decode().split("\n")[:-1]
    expected = [
        {key: as_loaded(value) for key, value in logfmt.parse(line).items()}
        for line in lines.split("\n")[:-1]
    ]
    assert in_order([json.loads(row) for row in rows]) == in_order(expected)


def test_prefixes_of_log_collectors_are_taken_off() -> None:
    """Compose, kubectl, docker -t, the container runtime, journald and json-file."""
    line = 'ts=2026-11-26T10:00:00.000Z event_type=request req_path=/ exc_msg="a b"'
    expected = logfmt.parse(line)
    for prefixed in (
        f"shop-1  | {line}",
        f"[pod/shop-5d9c/web] {line}",
        f"2026-11-26T10:00:00.123456789Z {line}",
        f"2026-11-26T10:00:00.123456789+00:00 stdout F {line}",
        f"Nov 26 10:00:00 host gunicorn[11786]: {line}",
        f"shop-1 | 2026-11-26T10:00:00.1Z {line}",
        json.dumps({"log": line + "\n", "stream": "stdout", "time": "2026-11-26T10:00:00Z"}),
    ):
        assert fields_of(prefixed) == expected, prefixed
    for foreign in (
        f"he said: {line}",
        f'Traceback "{line}"',
        "ts=1 level=info msg=x",
        "{}",
        '{"ts":"1"}',
        "",
        "[1]",
    ):
        assert fields_of(foreign) is None, foreign
