"""The logfmt encoder and parser: what they promise for any input."""

from __future__ import annotations

import enum
import math
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event import logfmt
from otel_canonical.event.logfmt import KNOWN_KEYS_LIMIT, as_text, clean_key, encode, parse

MOST_FIELDS = 30
LONG = 7 * 1024  # bytes that Gunicorn accepts in one header, about
CLEAN_KEY = re.compile(r"[A-Za-z0-9_.]+")
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f\u2066-\u2069\u3000\ud800-\udfff\ufeff]"
)

HOSTILE = [
    '" event_type="timeout',
    '\\" event_type="timeout',
    '\\\\" event_type="timeout',
    "x\\",
    "C:\\",
    '"',
    "\r\nevent_type=timeout",
    "\nevent_type=timeout\n",
    "a=b event_type=timeout",
    "\x1b[2J\x1b[1;1H",
    "\x9b2J",
    "\x00",
    "\x85event_type=timeout",
    "\u2028event_type=timeout",
    "\u202eevent_type=timeout",
    "\ufeff",
    "\xa0",
    "\ud800\udc00",
    b"caf\xe9 \xff".decode("latin-1"),
    b"caf\xe9 \xff".decode("utf-8", "surrogateescape"),
    '\\"' * (LONG // 2),
    "=" * LONG,
    "🧵" * LONG,
]

any_text = st.text(st.characters(exclude_categories=()))
hostile_text = st.lists(st.sampled_from(HOSTILE) | any_text, max_size=4).map("".join)
clean_keys = st.from_regex(CLEAN_KEY, fullmatch=True)
values = any_text | hostile_text | st.integers() | st.floats() | st.booleans()


class Broken:
    """Raises whatever is asked of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class Lying(str):
    """A str that says something else when it is asked."""

    __slots__ = ()

    def __str__(self) -> str:
        return "x\nforged=1"


class Proxy:
    """Pretends to be a str, as lazy objects do."""

    __class__ = str  # type: ignore[assignment]

    def __str__(self) -> str:
        return "proxied"


class Plan(enum.IntEnum):
    """An int with a name."""

    PRO = 2


anything: st.SearchStrategy[Any] = st.one_of(
    values,
    st.none(),
    st.binary(),
    st.lists(st.text()),
    st.dictionaries(st.text(), st.integers()),
    st.builds(Broken),
    st.sampled_from([Lying("x"), Proxy(), Plan.PRO, object(), 10**5000, b"\xff"]),
)


def assert_is_one_quiet_line(line: str) -> None:
    """Fail if a reader could find two lines in it, or a terminal anything to obey."""
    assert len(line.splitlines()) <= 1
    assert not HIDDEN.search(line)
    assert not [one for one in line if unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs")]
    line.encode()


def test_event_when_written_looks_like_this() -> None:
    """Words, numbers and booleans are bare; what could be misread is quoted; None is left out."""
    pairs: list[tuple[str, Any]] = [
        ("event_type", "request"),
        ("ts", "2024-02-29T12:00:00.123Z"),
        ("sampled", True),
        ("client_gone", False),
        ("req_path", "/café/🧵/"),
        ("req_query", "a=b"),
        ("req_user_agent", 'Mozilla/5.0 "x" \\ \x1b\n\r\t\u2028\x7f'),
        ("user_id", None),
        ("empty", ""),
        ("resp_status", 200),
        ("resp_time", 0.0421),
        ("app.plan name", "pro"),
        ("", "-"),
    ]
    assert encode(pairs) == (
        "event_type=request ts=2024-02-29T12:00:00.123Z sampled=true client_gone=false"
        ' req_path=/café/🧵/ req_query="a=b"'
        r' req_user_agent="Mozilla/5.0 \"x\" \\ \u001b\n\r\t\u2028\u007f"'
        ' empty="" resp_status=200 resp_time=0.0421 app.plan_name=pro _=-'
    )


@given(st.dictionaries(clean_keys, any_text | hostile_text, max_size=MOST_FIELDS))
def test_texts_when_parsed_come_back(event: dict[str, str]) -> None:
    """`parse(encode(x)) == x`, for any texts under clean keys."""
    assert parse(encode(event.items())) == event


@given(st.dictionaries(any_text, any_text | hostile_text, max_size=MOST_FIELDS))
def test_keys_when_unclean_are_repaired(event: dict[str, str]) -> None:
    """Under any keys the values come back by the repaired key, the last of equal ones."""
    repaired = {clean_key(key): value for key, value in event.items()}
    assert parse(encode(event.items())) == repaired
    assert all(CLEAN_KEY.fullmatch(key) for key in repaired)


@given(st.lists(st.tuples(anything, anything), max_size=MOST_FIELDS))
def test_anything_when_encoded_is_one_line(pairs: list[tuple[Any, Any]]) -> None:
    """Whatever the keys and values are, there is one line, in UTF-8, that moves no cursor."""
    line = encode(pairs)
    assert_is_one_quiet_line(line)
    expected = {clean_key(key): as_text(value) for key, value in pairs if value is not None}
    assert parse(line) == expected


def test_characters_when_they_move_or_hide_text_are_escaped() -> None:
    """Of all characters up to U+FFFF, those that no eye can tell from others are seen as codes."""
    for code in range(0x10000):
        character = chr(code)
        line = encode([("k", character)])
        assert parse(line) == {"k": character}
        is_quiet = not HIDDEN.match(character) and (
            unicodedata.category(character) not in ("Cc", "Zs", "Zl", "Zp", "Cs")
        )
        assert is_quiet or character == " " or line.isascii(), hex(code)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_header_when_hostile_forges_nothing(hostile: str) -> None:
    """A client's text stays the value of its own key: no key beside it, no second line."""
    event = {"event_type": "request", "req_user_agent": hostile, "resp_status": "200"}
    line = encode(event.items())
    assert_is_one_quiet_line(line)
    assert list(parse(line).items()) == list(event.items())


@given(st.floats())
def test_float_when_written_is_bare_and_without_exponent(number: float) -> None:
    """A float is read back as the same float, and is written without an exponent."""
    shown = encode([("k", number)]).removeprefix("k=")
    assert re.fullmatch(r"-?(?:\d+(?:\.\d+)?|inf)|nan", shown)
    assert float(shown) == number or math.isnan(number)


@given(st.integers())
def test_integer_when_written_is_bare(number: int) -> None:
    """An integer is written in digits, however wide."""
    assert encode([("k", number)]) == f"k={number}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Broken(), "!err"),
        (10**5000, "!err"),
        (Lying("x"), "x"),
        (Proxy(), "proxied"),
        (Plan.PRO, "2"),
        (1e-7, "0.0000001"),
        (-1.5e20, "-150000000000000000000"),
        (["a", 1], "\"['a', 1]\""),
        (b"\xff", r'"b' + r"'\\xff'" + '"'),
    ],
    ids=["broken", "too-wide", "lying", "proxy", "enum", "tiny", "huge", "list", "bytes"],
)
def test_value_when_odd_is_shown_anyway(value: Any, shown: str) -> None:
    """What is no plain value is shown as its text; what has none, as `!err`; never an error."""
    assert encode([("k", value), ("after", 1)]) == f"k={shown} after=1"


def test_key_when_not_a_text_is_shown_anyway() -> None:
    """A key that is no str is written as its text, also if it raises or can't be hashed."""
    pairs: list[tuple[Any, Any]] = [(1, "a"), (Broken(), "b"), ([2], "c"), (True, "d"), ("1", "e")]
    assert encode(pairs) == "1=a _err=b _2_=c true=d 1=e"


def test_keys_when_endless_do_not_fill_the_memory() -> None:
    """An app that makes a new key for each request keeps no more of them than the bound."""
    for number in range(2 * KNOWN_KEYS_LIMIT):
        assert encode([(f"endless_{number}", 1)]) == f"endless_{number}=1"
        assert len(logfmt._prefixes) <= KNOWN_KEYS_LIMIT


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("bare", {"bare": ""}),
        ("a=1 bare b=2\n", {"a": "1", "bare": "", "b": "2"}),
        ("a= b=\t c=3", {"a": "", "b": "", "c": "3"}),
        ("  a=1   b=2  ", {"a": "1", "b": "2"}),
        ('a="x y"b=2', {"a": "x y", "b": "2"}),
        ('a="never closed b=2', {"a": "never closed b=2"}),
        ('a="ends in \\', {"a": "ends in "}),
        ('"junk a=1" =more b=2', {"b": "2"}),
        ('="junk a=1" b=2', {"b": "2"}),
        ("a=b=c", {"a": "b=c"}),
        ('a=1" b=2', {"a": '1"', "b": "2"}),
        ("@timestamp=now größe=1", {"@timestamp": "now", "größe": "1"}),
        (r'a="\b\f\/\'" b=\n', {"a": "\b\f/'", "b": "\\n"}),
        (r'a="\x \u12 \u00e9"', {"a": "\\x \\u12 é"}),
        ("a=1 a=2", {"a": "2"}),
    ],
)
def test_line_when_foreign_is_read_as_far_as_it_goes(line: str, expected: dict[str, str]) -> None:
    """Lines that others wrote, also broken ones, give the pairs they hold; junk is skipped."""
    assert parse(line) == expected


@given(any_text | hostile_text | st.text('a=" \\\n'))
def test_line_when_nonsense_is_parsed_without_error(line: str) -> None:
    """No line makes the parser raise."""
    assert all(parse(line))


#: Code points that a terminal obeys or doesn't show.
HIDDEN_CODES = (
    """0-1f 7f-a0 ad 61c 1680 180e 2000-200f 2028-202f 205f-206f 3000 d800-dfff feff fff9-fffb"""
)


@pytest.mark.parametrize("codes", HIDDEN_CODES.split())
def test_what_is_not_seen_is_escaped_and_its_neighbours_are_not(codes: str) -> None:
    """A letter beside them stays one that can be read and searched for."""
    first, _, last = codes.partition("-")
    begin, end = int(first, 16), int(last or first, 16)
    for code in range(max(begin - 1, 0), end + 2):
        is_hidden = chr(code) not in logfmt.encode([("key", f"a{chr(code)}b")])
        assert is_hidden is (begin <= code <= end), hex(code)
