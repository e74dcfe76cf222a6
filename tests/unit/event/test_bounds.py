"""What is shown is bounded: texts, containers, the whole event; each cut can be seen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event import bounds
from otel_canonical.event.event import TRUNCATED_ATTRIBUTE, CanonicalEvent, EventType
from otel_canonical.event.fields import field_value
from otel_canonical.event.rows import DETAILS, LOOSE

MOST = bounds.limits.value

plain = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=20)
containers = st.recursive(
    plain,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(containers)
def test_small_values_are_shown_whole(value: Any) -> None:
    """Exactly as `str` shows them."""
    if type(value) not in (bool, int, str, float):
        assert field_value(value) == str(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000_000,
        b"x" * 10_000_000,
        ["x" * 1000] * 10_000,
        list(range(1_000_000)),
        dict.fromkeys(range(1000000), "x"),
        {"a": {"b": ["x" * 10_000_000]}},
        ("x" * 10_000_000,),
        set(range(1_000_000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_values_are_cut_visibly(value: Any) -> None:
    """Their beginning, and a mark."""
    shown = str(field_value(value))
    assert MOST <= len(shown) < MOST + 20
    assert shown[MOST:].startswith("...[+")
    assert isinstance(value, set) or shown[:20] == str(value)[:20]


def test_deep_container_is_no_error() -> None:
    """One that holds itself, and one deeper than Python shows."""
    value: list[Any] = ["x" * 10_000]
    value.append(value)
    for _ in range(500):
        value = [value]
    assert len(str(field_value(value))) < MOST + 20


def event_of(**pairs: Any) -> CanonicalEvent:
    """A request with some fields."""
    facts = [("event_type", "request"), ("req_id", "a"), ("resp_status", 500), ("req_route", "r/")]
    return CanonicalEvent.of_pairs(EventType.REQUEST, [*facts, *pairs.items()], "S" * 16_000)


def size_of(attributes: dict[str, Any]) -> int:
    """Return the bytes of names and values."""
    return sum(len(name) + len(str(value).encode()) for name, value in attributes.items())


def test_ordinary_event_is_whole() -> None:
    """Nothing is shortened, and nothing says so."""
    attributes = event_of(app_a="x" * 4000).attributes()
    assert len(str(attributes["code.stacktrace"])) == 16_000
    assert TRUNCATED_ATTRIBUTE not in attributes


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_large_event_is_bounded(letter: str) -> None:
    """At most 64 KiB: the stack is shortened first, then what the app has set, the longest first."""
    app = {f"app_{n}": letter * 4000 for n in range(30)}
    attributes = event_of(**app, app_small="pro", req_path="/" + letter * 3000).attributes()
    assert size_of(attributes) <= bounds.limits.event
    assert attributes[TRUNCATED_ATTRIBUTE] is True
    assert attributes["url.path"] == "/" + letter * 3000
    assert (attributes["http.response.status_code"], attributes["app.small"]) == (500, "pro")
    assert str(attributes["code.stacktrace"]).endswith("...[+15947]")
    assert "...[+" in str(attributes["app.10"])


def test_event_of_too_many_values_loses_the_least_important() -> None:
    """20,000 keys don't fit, however short: the app's go, ours stay."""
    app = {f"app_{n}": "yes" for n in range(20_000)}
    attributes = event_of(**app).attributes()
    assert size_of(attributes) <= bounds.limits.event
    assert (attributes["http.route"], attributes["http.request.id"]) == ("r/", "a")
    assert 100 < len(attributes) < 20_000


def test_lists_count_and_give_way_whole() -> None:
    """A list of texts is as many bytes as its texts; it is left out rather than shortened."""
    small = (("db_n1_queries", None, ("a" * 2000,) * 5),)
    rows = ((LOOSE, (("event_type", "request"), ("req_route", "r/"))), (DETAILS, small))
    kept = CanonicalEvent(EventType.REQUEST, rows).attributes()
    assert kept["canonical.db.n1.queries"] == ("a" * 2000,) * 5
    large = (("db_n1_queries", None, ("x" * 20_000,) * 5),)
    attributes = CanonicalEvent(EventType.REQUEST, (*rows[:1], (DETAILS, large))).attributes()
    assert attributes["http.route"] == "r/"
    assert attributes[TRUNCATED_ATTRIBUTE] is True
    assert "canonical.db.n1.queries" not in attributes
