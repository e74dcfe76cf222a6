"""What `otel-canonical set` can switch while a pool runs. Pure.

On the scoreboard a switch is `name: [value, until]`: the value as text, and the monotonic time, ns, after
which the arbiter takes it back; null for never.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

LOG_PREFIX = "log:"

#: By name: value as text, and until when (monotonic ns; None for as long as the arbiter lives).
Switches = Mapping[str, tuple[str, int | None]]


def _seconds(text: str) -> float | None:
    if text.strip().lower() == "off":
        return None
    try:
        number = float(text)
    except ValueError:
        raise ValueError("a number of seconds, or off") from None
    if not 0 < number < float("inf"):
        raise ValueError("more than 0 seconds, or off")
    return number


def _boolean(text: str) -> bool:
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.strip().lower() == "true"


def _level(text: str) -> int:
    level = logging.getLevelName(text.strip().upper())
    if not isinstance(level, int):
        raise ValueError("the name of a level, such as DEBUG")
    return level


class Switch(NamedTuple):
    """A setting that can be switched, and how its value is read."""

    setting: str
    read: Callable[[str], Any]


#: The settings that can be switched, by the names that `otel-canonical set` has for them.
SETTINGS: Mapping[str, Switch] = {
    "slow_seconds": Switch("slow_seconds", _seconds),
    "explain_seconds": Switch("db_explain_seconds", _seconds),
    "query_string": Switch("query_string", _boolean),
}


def value_of(name: str, text: str) -> Any:
    """Return the value of a switch.

    Raises:
        KeyError: there is no such switch.
        ValueError: the value is not one; the message says what is.
    """
    if name.startswith(LOG_PREFIX):
        return _level(text)
    return SETTINGS[name].read(text)


def as_switches(content: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
    """Return what a scoreboard says is switched."""
    return {name: (str(text), until_ns) for name, (text, until_ns) in content.items()}


def unexpired(switches: Switches, now_ns: int) -> dict[str, tuple[str, int | None]]:
    """Return the switches whose time is not over."""
    return {
        name: (text, until_ns)
        for name, (text, until_ns) in switches.items()
        if until_ns is None or until_ns > now_ns
    }
