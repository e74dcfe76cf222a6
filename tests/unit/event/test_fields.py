"""The field vocabulary: each key has one attribute and one meaning."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event.fields import FIELDS, PATTERNS, PROTECTED, attribute_of, field_value

EVERYTHING = FIELDS + PATTERNS

#: What the line shows of the span's own parts: no attribute says it again.
SPANS_OWN = {"ts", "trace_id", "span_id", "sampled"}


def test_every_key_is_unique() -> None:
    """No two fields share a key, nor an attribute."""
    for names in (
        [field.key for field in EVERYTHING],
        [field.attribute for field in EVERYTHING if field.attribute],
    ):
        assert [name for name, count in Counter(names).items() if count > 1] == []


def test_every_key_may_be_written_as_it_is() -> None:
    """Lower case, digits and `_`: nothing in a key needs a repair."""
    for field in FIELDS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", field.key)


def test_every_field_says_what_it_is() -> None:
    """A type, a meaning, and a unit where a number alone says too little."""
    for field in EVERYTHING:
        assert field.type in {"str", "int", "float", "bool", "any"}
        assert field.meaning
        assert field.unit in ("s", "1") or field.type != "float", f"{field.key} is a float of what?"


def test_every_field_is_attribute_unless_span_has_it() -> None:
    """Only what the span itself carries has no attribute."""
    assert {field.key for field in FIELDS if not field.attribute} == SPANS_OWN
    for field in FIELDS:
        assert attribute_of(field.key) == field.attribute


def test_identity_outcome_and_times_are_protected() -> None:
    """What a line must keep, however long it is."""
    identity = {"ts", "event_type", "req_id", "trace_id", "span_id", "sampled"}
    outcome = {"req_method", "resp_status", "lost_cause"}
    times = {"resp_time", "resp_ttfb", "resp_cpu_time"}
    assert identity | outcome | times == PROTECTED


@pytest.mark.parametrize(
    ("key", "attribute"),
    [
        ("req_route", "http.route"),
        ("resp_status", "http.response.status_code"),
        ("http_calls", "canonical.http_client.calls"),
        ("http_errors", "canonical.http_client.errors"),
        ("redis_calls", "canonical.redis.calls"),
        ("redis_time", "canonical.redis.time"),
        ("aws_dynamodb_errors", "canonical.aws_dynamodb.errors"),
        ("app_plan", "app.plan"),
        ("app_pricing_time", "app.pricing_time"),
        ("app_pricing_count", "app.pricing_count"),
        ("app_calls", "app.calls"),
        ("app_event_type", "app.event_type"),
        ("app_", "app."),
        ("client_gone", "canonical.client_gone"),
        ("ts", ""),
    ],
)
def test_attribute_of_key(key: str, attribute: str) -> None:
    """A field's own, a family's, or the app's."""
    assert attribute_of(key) == attribute


@given(st.text(max_size=40))
def test_apps_keys_stay_apart(key: str) -> None:
    """Whatever an app calls its fact, it is none of ours on the span."""
    assert attribute_of("app_" + key) == "app." + key


class Rate(float):
    """A float of the app's own."""

    def __float__(self) -> float:
        raise ZeroDivisionError


class Count(int):
    """An integer of the app's own."""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, True),
        (0.5, 0.5),
        (7, 7),
        (Count(7), 7),
        (Rate(0.5), 0.5),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, str(2**63)),
        ("text", "text"),
        ([1], "[1]"),
    ],
)
def test_value_of_an_app_is_a_scalar(value: object, shown: object) -> None:
    """Of Python's own type; what a store's integers can't hold is a text."""
    found = field_value(value)
    assert (found, type(found)) == (shown, type(shown))
