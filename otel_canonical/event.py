"""The canonical event: what one request did, in the order it is written. Pure.

The one noun that crosses rooms. Every output receives only this.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import NamedTuple

from otel_canonical.fields import STACK_ATTRIBUTE, FieldValue, attribute_of


class EventType(Enum):
    """What a line reports. Each request ends in exactly one event of the first three."""

    REQUEST = "request"  # a response was produced, or nobody was left to take it
    TIMEOUT = "timeout"  # Gunicorn aborted the worker because of this request
    LOST = "lost"  # the worker died, for any other reason, with this request open
    SLOW = "slow"  # still running, longer than the operator finds normal
    PARTIAL_FAILURE = "partial_failure"  # a failure that the app chose to survive


class CanonicalEvent(NamedTuple):
    """One event; `pairs` holds every key of the line, `event_type` and `ts` first.

    `stack` is too long for a line: it leaves on span and log event only.
    """

    event_type: EventType
    pairs: tuple[tuple[str, FieldValue], ...]
    stack: str = ""

    def attributes(self) -> dict[str, FieldValue]:
        """Return the event as span attributes, the app's first.

        The SDK evicts the oldest attribute when a span is full: what the app set goes first.
        """
        named = [(attribute_of(key), value) for key, value in self.pairs]
        named.sort(key=lambda pair: not pair[0].startswith("app."))
        attributes = {name: value for name, value in named if name}
        if self.stack:
            attributes[STACK_ATTRIBUTE] = self.stack
        return attributes


def timestamp(now_ns: int | None = None) -> str:
    """Return a moment (nanoseconds since the epoch; default now) in RFC 3339, UTC, milliseconds."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    second, rest_ns = divmod(now_ns, 1_000_000_000)
    made_for, text = _this_second[0]
    if made_for != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _this_second[0] = (second, text)
    return f"{text}.{rest_ns // 1_000_000:03d}Z"


def seconds(elapsed_ns: int) -> float:
    """Return a duration in seconds, to the microsecond."""
    return round(elapsed_ns / 1e9, 6)


#: A second's text is made once: strftime is dearer than the rest of a timestamp. Number and text are
#: one tuple, so that threads never see the one with the other's.
_this_second: list[tuple[int, str]] = [(-1, "")]
