"""Bounds to the byte: what just fits is whole, one more is cut, and the cut says how much is missing."""

from __future__ import annotations

from typing import Any

import pytest

from otel_canonical.event import bounds
from otel_canonical.event.bounds import Limits, configure, cut, fit, shown
from otel_canonical.settings import Settings

#: What each attribute adds to its name and its text.
OVERHEAD = 16


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Limits that are small."""
    small = Limits(10, 400)
    monkeypatch.setattr(bounds, "limits", small)
    return small


def test_text_is_cut_behind_its_bound(limits: Limits) -> None:
    """Its own, or that of values."""
    assert cut("x" * 10) == "x" * 10
    assert cut("x" * 11) == "x" * 10 + "...[+1]"
    assert cut("x" * 11, 3) == "xxx...[+8]"
    assert cut("xxx", 3) == "xxx"
    assert cut("xxx", 0) == "...[+3]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 2, 3], "[1, 2, 3]"),
        ([1, 2, 3, 4, 5], "[1, 2, 3, ...[+]"),
        ([1, 2, 3, 4, 5, 6], "[1, 2, 3, ...[+]"),
        (["x" * 20], "['xxxxxxxx...[+]"),
        ((1,), "(1,)"),
        ({1: 2}, "{1: 2}"),
        ({"a": "x" * 20}, "{'a': 'xxx...[+]"),
        ({1, 2}, "{1, 2}"),
        (frozenset({1}), "frozenset(...[+4]"),
        (b"x" * 20, "b'xxxxxxxx...[+]"),
        (b"x" * 10, "b'xxxxxxxx...[+3]"),
        (b"x" * 11, "b'xxxxxxxx...[+]"),
        (b"xx", "b'xx'"),
        ("x" * 12, "x" * 10 + "...[+2]"),
        (1234567890123, "1234567890...[+3]"),
    ],
)
def test_value_is_shown_as_far_as_it_fits(limits: Limits, value: Any, text: str) -> None:
    """As `str` shows it, up to the cut; of a large container only so many items are looked at."""
    expected = text if "...[+" in text else cut(str(value))
    assert shown(value) == expected
    assert shown(value)[:10] == text[:10]


@pytest.mark.parametrize("most", range(1, 40))
@pytest.mark.parametrize(
    "value",
    [
        list(range(100, 150)),
        [[1, 2], [3, [4, 5]], (6, 7)] * 10,
        {number: [number, (number, 0)] for number in range(20)},
        [{1: 2, 3: 4}, {5}] * 20,
        [1.5, None, True] * 20,
    ],
)
def test_beginning_of_a_container_is_as_python_writes_it(
    value: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last character before the cut: no bracket closes what goes on."""
    monkeypatch.setattr(bounds, "limits", Limits(most, 400))
    assert shown(value) == str(value)[:most] + "...[+]"


def test_containers_are_looked_into_to_a_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deeper ones are dots: what they hold may be of any size."""
    monkeypatch.setattr(bounds, "limits", Limits(200, 400))
    deep: list[Any] = ["x" * 300]
    for _ in range(18):
        deep = [deep]
    assert shown(deep).startswith("[" * 19 + "'xxx")
    deep = [deep, deep]
    assert shown(deep).startswith("[" * 20 + "'xxx")
    deep = ["x" * 10_000_000]
    for _ in range(20):
        deep = [deep]
    assert shown(deep) == "[" * 20 + "..." + "]" * 20 + "...[+]"


def test_item_whose_repr_raises_is_marked(limits: Limits) -> None:
    """Its own code."""

    class Hostile:
        def __repr__(self) -> str:
            raise ValueError("no")

    assert shown([Hostile(), "x" * 20]) == "[!err, 'xx...[+]"
    assert bounds.as_repr(Hostile()) == "!err"


def size(attributes: dict[str, Any]) -> int:
    """Return how large an event counts."""
    found = 0
    for name, value in attributes.items():
        texts = value if isinstance(value, tuple) else (value,)
        found += len(name) + OVERHEAD
        found += sum(len(text.encode()) for text in texts if isinstance(text, str))
    return found


def test_event_that_just_fits_is_whole(limits: Limits) -> None:
    """One byte more, and its least important text is shortened by what is needed."""
    importance = {"a": 0, "b": 1, "truncated": 2}
    whole: dict[str, Any] = {"a": "x" * (400 - 2 * 17 - 100), "b": "y" * 100}
    assert size(whole) == 400
    assert fit(whole, importance, "truncated") == whole
    longer = {**whole, "a": whole["a"] + "x"}
    fitted = fit(longer, importance, "truncated")
    assert fitted["truncated"] is True
    assert fitted["b"] == "y" * 100
    assert 390 < size(fitted) <= 400
    kept, _, missing = str(fitted["a"]).partition("...[+")
    assert len(kept) + int(missing.rstrip("]")) == len(longer["a"])


def test_text_of_64_bytes_is_never_shortened(limits: Limits) -> None:
    """It is whole, where one of 65 has to give room for others."""
    importance = {"a": 0, "b": 1, "truncated": 2}
    for length in (64, 65):
        fitted = fit({"a": "a" * length, "b": "b" * 400}, importance, "truncated")
        assert (fitted["a"] == "a" * length) is (length == 64)
        assert size(fitted) <= 400


def test_most_important_is_shortened_last(limits: Limits) -> None:
    """Among equals the largest first; no text below 64 bytes; what is still too much is left out."""
    importance = {"a": 0, "b": 0, "c": 1, "n": 0, "truncated": 2}
    event: dict[str, Any] = {"c": "c" * 150, "a": "a" * 100, "b": "b" * 120, "n": 7}
    fitted = fit(event, importance, "truncated")
    assert fitted["c"] == "c" * 150
    assert 60 < len(str(fitted["b"])) <= 64
    assert (fitted["n"], size(fitted) <= 400) == (7, True)
    many: dict[str, Any] = {f"k{n}": "x" * 60 for n in range(10)}
    left = fit(many, {**dict.fromkeys(many, 0), "k9": 1, "truncated": 2}, "truncated")
    assert left["k9"] == "x" * 60
    assert 300 < size(left) <= 400


def test_wide_characters_count_as_their_bytes(limits: Limits) -> None:
    """And are never cut apart."""
    importance = {"a": 0, "truncated": 1}
    fitted = fit({"a": "é" * 300}, importance, "truncated")
    assert size(fitted) <= 400
    kept, _, missing = str(fitted["a"]).partition("...[+")
    assert set(kept) == {"é"}
    assert len(kept) + int(missing.rstrip("]")) == 300


def test_limits_are_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value may be as long as a line, and never less than it may by default."""
    own = Limits()
    monkeypatch.setattr(bounds, "limits", own)
    assert (own.value, own.event) == (4096, 65_536)
    for max_line, value in ((512, 4096), (4097, 4097), (8192, 8192)):
        configure(Settings(max_line=max_line, max_event=1000))
        assert (own.value, own.event) == (value, 1000)
