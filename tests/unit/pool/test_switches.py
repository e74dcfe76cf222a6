"""What can be switched while a pool runs: each value as it is read, each mistake in a sentence, and until when."""

from __future__ import annotations

import pytest

from otel_canonical.pool.switches import as_switches, unexpired, value_of


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("slow_seconds", "0.5", 0.5),
        ("slow_seconds", " OFF ", None),
        ("explain_seconds", "1e-3", 0.001),
        ("query_string", " True", True),
        ("query_string", "false", False),
        ("log:shop.orders", "debug", 10),
        ("log:", " WARNING ", 30),
    ],
)
def test_value_is_read(name: str, text: str, value: object) -> None:
    """As an operator writes it."""
    assert value_of(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("slow_seconds", "fast", "a number of seconds, or off"),
        ("slow_seconds", "0", "more than 0 seconds, or off"),
        ("slow_seconds", "-1", "more than 0 seconds, or off"),
        ("slow_seconds", "inf", "more than 0 seconds, or off"),
        ("slow_seconds", "nan", "more than 0 seconds, or off"),
        ("query_string", "yes", "true or false"),
        ("log:shop", "LOUD", "the name of a level, such as DEBUG"),
    ],
)
def test_value_that_is_none_is_refused(name: str, text: str, message: str) -> None:
    """The message says what is one."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        value_of(name, text)


def test_unknown_switch_is_refused() -> None:
    """Most settings can't be switched."""
    with pytest.raises(KeyError):
        value_of("output", "stdout")


def test_switches_end_at_their_time() -> None:
    """Those without one stay."""
    switches = as_switches({"a": ["1", None], "b": [2, 100], "c": ["3", 101]})
    assert switches == {"a": ("1", None), "b": ("2", 100), "c": ("3", 101)}
    assert unexpired(switches, 100) == {"a": ("1", None), "c": ("3", 101)}
