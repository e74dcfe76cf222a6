"""The canonical event: what one request did, in the order it is written. Pure.

The one noun that crosses runtime. Every output receives only this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from otel_canonical.event.fields import APP_ATTRIBUTE_PREFIX, STACK_ATTRIBUTE, FieldValue
from otel_canonical.event.rows import LOOSE, Pair, Row
from otel_canonical.pool.counters import COUNTS


class EventType(Enum):
    """What a line reports. Each request ends in exactly one event of the first three.

    `number` is the place of its count among `counters.COUNTS`.
    """

    REQUEST = "request"  # a response was produced, or nobody was left to take it
    TIMEOUT = "timeout"  # Gunicorn aborted the worker because of this request
    LOST = "lost"  # the worker died, for any other reason, with this request open
    SLOW = "slow"  # still running, longer than the operator finds normal
    PARTIAL_FAILURE = "partial_failure"  # a failure that the app chose to survive
    POOL = "pool"  # how full the pool was; of no request

    def __init__(self, name: str) -> None:
        self.number = COUNTS.index(name)


#: A response of this status, or a higher one, is a failure of the server.
FIRST_SERVER_ERROR = 500

#: Of these each request has exactly one.
ENDINGS = (EventType.REQUEST, EventType.TIMEOUT, EventType.LOST)

#: How many attributes the stacks of an event are.
MOST_STACKS = 2

#: Makes the attributes of stacks.
Stacks = Callable[[], Mapping[str, str]]


class CanonicalEvent:
    """One event; its rows hold every fact of the line, `event_type` and `ts` first.

    Args:
        event_type: what it reports.
        rows: each with its values.
        stack: too long for a line; it leaves on span and log event only. Or what makes the
            attributes of several such stacks, asked only if the event is exported.
    """

    __slots__ = ("_attributes", "_rows", "_stack", "event_type")

    def __init__(
        self, event_type: EventType, rows: Sequence[tuple[Row, Any]], stack: str | Stacks = ""
    ) -> None:
        #: What the event reports.
        self.event_type = event_type
        self._rows = rows
        self._stack = stack
        self._attributes: dict[str, FieldValue] | None = None

    @classmethod
    def of_pairs(
        cls, event_type: EventType, pairs: Iterable[Pair], stack: str | Stacks = ""
    ) -> CanonicalEvent:
        """Return the event of facts that are pairs."""
        return cls(event_type, ((LOOSE, tuple(pairs)),), stack)

    @property
    def stack(self) -> str:
        """The stack that belongs to the event, or an empty text."""
        return self._stack if isinstance(self._stack, str) else ""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every key of the line with its value, in the order of the line."""
        return tuple([pair for row, values in self._rows for pair in row.pairs(values)])

    def as_logfmt(self) -> str:
        """Return the event as one line without a newline."""
        facts: list[str] = []
        for row, values in self._rows:
            if text := row.as_logfmt(values):
                facts.append(text)  # before 3.12 a comprehension is a call
        return " ".join(facts)

    def size(self) -> int:
        """Return a number of attributes that it hasn't more of."""
        most = MOST_STACKS
        for _, values in self._rows:
            most += len(values)  # before 3.12 a comprehension is a call
        return most

    def settle(self) -> None:
        """Make the stacks now, and let go of the exception and the frames that they are made of."""
        if not isinstance(self._stack, str):
            self.attributes()
            self._stack = ""

    def attributes(self) -> dict[str, FieldValue]:
        """Return the event as span attributes, the app's first; made once, not to be changed.

        The SDK evicts the oldest attribute when a span is full: what the app set goes first.
        """
        if self._attributes is None:
            found: dict[str, FieldValue] = {}
            for row, values in self._rows:
                if row is LOOSE:  # nothing else holds facts of the app
                    facts = row.attributes(values)
                    app = {
                        name: value
                        for name, value in facts.items()
                        if name.startswith(APP_ATTRIBUTE_PREFIX)
                    }
                    found = {**app, **found, **facts}
                else:
                    found.update(row.attributes(values))
            if not isinstance(self._stack, str):
                found.update(self._stack())
            elif self._stack:
                found[STACK_ATTRIBUTE] = self._stack
            self._attributes = found
        return self._attributes


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
