"""The limit on line length: it always holds, and values are shortened in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event import json_lines, logfmt
from otel_canonical.event.line_length import SHORTEST_WIDTH, Encoder, fit
from otel_canonical.event.logfmt import FieldValue, parse

PIPE_BUF = 4096
SHORTEST_BOUND = 512
LONG = 7 * 1024
MANY_KEYS = 300
WIDE_NUMBER = 10**1000
MOST_ENCODINGS = 60  # of one pair or the whole line, for an event of a dozen fields

IDENTITY: list[tuple[str, FieldValue]] = [
    ("event_type", "request"),
    ("ts", "2024-02-29T12:00:00.123Z"),
    ("req_id", "0123456789abcdef0123456789abcdef"),
    ("resp_status", 200),
]
PROTECTED = frozenset(key for key, _ in IDENTITY)
SHOWN_IDENTITY = {key: str(value) for key, value in IDENTITY}

any_text = st.text(st.characters(exclude_categories=()), max_size=100)
long_text = st.builds(
    lambda text, times: text * times, any_text, st.sampled_from([1, 10, LONG // 100])
)
keys = st.sampled_from([*PROTECTED, "truncated"]) | any_text
values: st.SearchStrategy[Any] = (
    long_text | st.integers() | st.floats() | st.booleans() | st.none() | st.just(WIDE_NUMBER)
)
encoders = pytest.mark.parametrize("encode", [logfmt.encode, json_lines.encode])
readers: dict[Encoder, Callable[[str], dict[str, Any]]] = {
    logfmt.encode: parse,
    json_lines.encode: json.loads,
}


def shorten(
    pairs: Iterable[tuple[str, FieldValue]], max_bytes: int = PIPE_BUF
) -> tuple[dict[str, str], bytes]:
    """Return the shortened line, parsed and as it is."""
    line, is_shortened = fit(list(pairs), logfmt.encode, max_bytes, PROTECTED)
    assert is_shortened
    assert len(line) <= max_bytes
    event = parse(line.decode())
    assert list(event)[-1] == "truncated"
    assert event.pop("truncated") == "true"
    return event, line


@encoders
@given(
    pairs=st.lists(st.tuples(keys, values), max_size=40),
    max_bytes=st.integers(SHORTEST_BOUND, PIPE_BUF),
    protected=st.sets(keys),
)
def test_any_event_when_fitted_is_one_line_within_the_bound(
    encode: Encoder, pairs: list[tuple[str, FieldValue]], max_bytes: int, protected: set[str]
) -> None:
    """At most `max_bytes`, one newline, at the end, and a line that parses; whole if it can be."""
    line, is_shortened = fit(pairs, encode, max_bytes, protected)
    assert len(line) <= max_bytes
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    whole = encode(pairs)
    assert is_shortened == (len(whole.encode()) >= max_bytes)
    event = readers[encode](line.decode())
    if is_shortened:
        assert str(event["truncated"]).lower() == "true"
        assert set(event) <= set(readers[encode](whole)) | {"truncated"}
    else:
        assert line.decode() == whole + "\n"


@encoders
@given(pairs=st.lists(st.tuples(keys, values), max_size=40))
def test_identity_when_shortened_stays_intact(
    encode: Encoder, pairs: list[tuple[str, FieldValue]]
) -> None:
    """Protected values of usual length are never touched, whatever is put beside them."""
    others = [(key, value) for key, value in pairs if key not in PROTECTED]
    line, _ = fit([*IDENTITY, *others], encode, SHORTEST_BOUND, PROTECTED)
    event = readers[encode](line.decode())
    shown = {key: event.get(key) for key in PROTECTED}
    repaired = {logfmt.clean_key(key) for key, _ in others}
    assert {key: str(shown[key]) for key in PROTECTED - repaired} == {
        key: SHOWN_IDENTITY[key] for key in PROTECTED - repaired
    }


def test_line_when_it_fits_is_encoded_once_and_left_alone() -> None:
    """A line of exactly the bound, newline included, is not touched and not encoded twice."""
    encoded: list[str] = []

    def encode(pairs: Iterable[tuple[str, FieldValue]]) -> str:
        encoded.append(logfmt.encode(pairs))
        return encoded[-1]

    padding = "x" * (SHORTEST_BOUND - len("a= b=1\n"))
    line, is_shortened = fit([("a", padding), ("b", 1)], encode, SHORTEST_BOUND, ())
    assert (line, is_shortened) == (f"a={padding} b=1\n".encode(), False)
    assert len(line) == SHORTEST_BOUND
    assert len(encoded) == 1
    assert fit([("a", padding + "x"), ("b", 1)], encode, SHORTEST_BOUND, ())[1]


def test_value_when_too_long_ends_in_a_mark_and_uses_the_whole_limit() -> None:
    """The mark says how many characters went; no byte of the limit is wasted."""
    event, line = shorten([*IDENTITY, ("req_user_agent", "x" * LONG), ("req_path", "/ok/")])
    agent = event.pop("req_user_agent")
    kept = len(agent) - len("...[+1234]")
    assert agent == "x" * kept + f"...[+{LONG - kept}]"
    assert event == {**SHOWN_IDENTITY, "req_path": "/ok/"}
    assert len(line) == PIPE_BUF


def test_event_when_the_app_sets_truncated_itself_has_it_once() -> None:
    """What the app says under our key gives way to what is true."""
    _, line = shorten([("truncated", "no"), *IDENTITY, ("a", "x" * LONG)])
    assert line.count(b"truncated=") == 1


def test_values_when_unequal_the_longest_give_way_first() -> None:
    """Values shorter than what the longest are cut to stay whole; those cut end up equal."""
    event, line = shorten(
        [*IDENTITY, ("a", "x" * LONG), ("b", "y" * 1000), ("c", "z" * 2 * LONG), ("d", "w" * 30)]
    )
    assert (event["b"], event["d"]) == ("y" * 1000, "w" * 30)
    assert abs(len(event["a"]) - len(event["c"])) <= 1
    assert len(line) > PIPE_BUF - 4


@pytest.mark.parametrize("character", ["é", "日", "🧵", "\u2028", '"', "\\", "\ud800"])
def test_characters_when_wide_are_never_cut_apart(character: str) -> None:
    """What several bytes stand for is there whole or not at all, at every bound."""
    for max_bytes in range(SHORTEST_BOUND, SHORTEST_BOUND + 16):
        event, line = shorten([*IDENTITY, ("a", character * LONG)], max_bytes)
        kept, mark = event["a"].split("...[+")
        assert kept == character * len(kept)
        assert mark == f"{LONG - len(kept)}]"
        assert max_bytes - len(line) <= len(logfmt.encode([("", character)]).encode())


def test_app_keys_when_too_many_are_dropped_from_the_end() -> None:
    """Hundreds of keys that can't be shortened go, the last first; ours and the first of them stay."""
    ours: list[tuple[str, FieldValue]] = [*IDENTITY, ("req_path", "/ok/"), ("db_queries", 10)]
    app = [(f"app_key_{number}", number * 1001) for number in range(MANY_KEYS)]
    event, line = shorten([*ours, *app])
    kept = list(event)[len(ours) :]
    assert {key: event[key] for key, _ in ours} == {key: str(value) for key, value in ours}
    assert kept == [key for key, _ in app[: len(kept)]]
    assert len(line) + len(logfmt.encode([app[len(kept)]])) + 1 > PIPE_BUF


def test_app_keys_when_many_and_long_are_cut_and_then_dropped() -> None:
    """Three hundred values of 7 KB leave a full line of short beginnings."""
    assert SHORTEST_WIDTH == 40
    app = [(f"app_{number}", "x" * LONG) for number in range(MANY_KEYS)]
    event, line = shorten([*IDENTITY, *app])
    assert event.items() >= SHOWN_IDENTITY.items()
    assert list(event)[len(IDENTITY) :] == [key for key, _ in app[: len(event) - len(IDENTITY)]]
    assert {len(event[key]) for key, _ in app if key in event} <= {SHORTEST_WIDTH - 2}
    assert len(line) > PIPE_BUF - 2 * SHORTEST_WIDTH


def test_numbers_when_absurdly_wide_are_cut_as_texts() -> None:
    """A number with thousands of digits gives way as a text does, before any key is dropped."""
    event, _ = shorten([*IDENTITY, ("a", WIDE_NUMBER**4), ("b", 1)])
    assert event["a"].startswith("1000")
    assert event["a"].endswith("]")
    assert event["b"] == "1"


def test_protected_value_when_absurdly_long_gives_way_last() -> None:
    """Only when nothing else is left to drop is a protected value shortened, and its key stays."""
    absurd = [(key, "x" * LONG if key == "req_id" else value) for key, value in IDENTITY]
    event, line = shorten([*absurd, ("req_path", "/ok/")])
    assert event.keys() == PROTECTED
    assert event.pop("req_id").startswith("xxxx")
    assert event.items() <= SHOWN_IDENTITY.items()
    assert len(line) == PIPE_BUF


def test_protected_keys_when_they_alone_are_too_many_give_way_to_the_bound() -> None:
    """The bound holds before all else: even protected pairs go, from the end."""
    pairs = [(f"key_{number}", number) for number in range(MANY_KEYS)]
    line, is_shortened = fit(pairs, logfmt.encode, SHORTEST_BOUND, [key for key, _ in pairs])
    assert is_shortened
    assert len(line) <= SHORTEST_BOUND
    assert line.startswith(b"key_0=0 key_1=1 ")
    assert line.endswith(b" truncated=true\n")


def test_work_when_shortening_does_not_grow_with_the_length() -> None:
    """A value is measured by halving, not character by character."""
    calls = 0

    def encode(pairs: Iterable[tuple[str, FieldValue]]) -> str:
        nonlocal calls
        calls += 1
        return logfmt.encode(pairs)

    pairs: list[tuple[str, FieldValue]] = [(f"key_{number}", number) for number in range(10)]
    fit([*pairs, ("a", "x" * LONG), ("b", "é" * 1_000_000)], encode, PIPE_BUF, ())
    assert calls <= MOST_ENCODINGS


@encoders
def test_bound_holds_to_the_byte_when_pairs_are_left_out(encode: Encoder) -> None:
    """At every bound: no line is longer, and none is shorter by more than a pair."""
    pairs: list[tuple[str, FieldValue]] = [*IDENTITY, *((f"k{n:03}", True) for n in range(200))]
    pair = len(encode([*pairs, ("k999", True)])) - len(encode(pairs))
    for max_bytes in range(SHORTEST_BOUND, SHORTEST_BOUND + 2 * pair):
        line, is_shortened = fit(pairs, encode, max_bytes, PROTECTED)
        assert is_shortened
        assert max_bytes - pair < len(line) <= max_bytes
