"""Parses the values of settings. A value that can't be had is a ValueError that says what is wanted."""

from __future__ import annotations

import fnmatch
import re

#: Below this a line cannot hold its ids, path and outcome.
SMALLEST_MAX_LINE = 512

#: Below this an event cannot hold its fields.
SMALLEST_MAX_EVENT = 4096


def boolean(text: str) -> bool:
    """Return True or False."""
    match text.strip().lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
    raise ValueError("true or false")


def seconds(text: str) -> float:
    """Return a number of seconds, more than none."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError("a number of seconds") from None
    if not 0 < number < float("inf"):
        raise ValueError("more than 0 seconds")
    return number


def runs(text: str) -> int:
    """Return a number of runs, at least two."""
    try:
        number = int(text)
    except ValueError:
        raise ValueError("a number of runs") from None
    if number < 2:
        raise ValueError("at least 2 runs")
    return number


def line_bytes(text: str) -> int:
    """Return the size of a line."""
    try:
        number = int(text)
    except ValueError:
        raise ValueError("a number of bytes") from None
    if number < SMALLEST_MAX_LINE:
        raise ValueError(f"at least {SMALLEST_MAX_LINE} bytes")
    return number


def event_bytes(text: str) -> int:
    """Return the size of an event."""
    try:
        number = int(text)
    except ValueError:
        raise ValueError("a number of bytes") from None
    if number < SMALLEST_MAX_EVENT:
        raise ValueError(f"at least {SMALLEST_MAX_EVENT} bytes")
    return number


def line_format(text: str) -> str:
    """Return the format of lines."""
    if text.strip().lower() not in ("logfmt", "json"):
        raise ValueError("logfmt or json")
    return text.strip().lower()


def log_events(text: str) -> str:
    """Return which log events are exported."""
    if text.strip().lower() == "sampled":
        return "sampled"
    try:
        return "true" if boolean(text) else "false"
    except ValueError:
        raise ValueError("true, sampled or false") from None


def output(text: str) -> str:
    """Return where lines go."""
    if not text.strip():
        raise ValueError("stdout, stderr or a file path")
    return text.strip()


def names_in(text: str) -> tuple[str, ...]:
    """Return the parts of a list that is separated by commas."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


def url_patterns(text: str) -> re.Pattern[str] | None:
    """Return one pattern for all URLs of a list; None for an empty list."""
    patterns = names_in(text)
    if not patterns:
        return None
    try:
        return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    except re.error as error:
        raise ValueError(f"regular expressions separated by commas ({error})") from None


def field_globs(text: str) -> re.Pattern[str] | None:
    """Return one pattern for all globs of a list; None for an empty list."""
    globs = names_in(text)
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs)) if globs else None


ALWAYS_EXPORTED = ("errors", "timeouts", "lost", "slow")


def always_exported(text: str) -> frozenset[str]:
    """Return which requests are always exported."""
    named = frozenset(name.lower() for name in names_in(text))
    if "all" in named:
        return frozenset(ALWAYS_EXPORTED)
    if not named <= frozenset(ALWAYS_EXPORTED):
        raise ValueError(f"any of {', '.join(ALWAYS_EXPORTED)}, separated by commas, or all")
    return named
