"""The canonical event: what one request did, in the order it is written. Pure.

The only thing that outputs receive: the line, the root span and the log event are all made from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TypeVar

from otel_canonical.event import bounds
from otel_canonical.event.fields import (
    APP_ATTRIBUTE_PREFIX,
    ERROR_STACK_ATTRIBUTE,
    FIELDS,
    STACK_ATTRIBUTE,
    AttributeValue,
)
from otel_canonical.event.rows import (
    DETAILS,
    HEAD,
    LOOSE,
    TRACED_WHOLE,
    USUAL,
    WHOLE,
    FilledRow,
    Pair,
    apart,
)
from otel_canonical.pool.counters import COUNTS


class EventType(Enum):
    """What a line reports. Each request ends in exactly one event of the first three types.

    `number` is the index of its count in `counters.COUNTS`.
    """

    REQUEST = "request"  # a response was produced, or the client had gone
    TIMEOUT = "timeout"  # Gunicorn aborted the worker because of this request
    LOST = "lost"  # the worker died, for any other reason, with this request open
    SLOW = "slow"  # still running, for longer than the slow threshold
    PARTIAL_FAILURE = "partial_failure"  # a failure that the app chose to survive
    SLOW_QUERY = "slow_query"  # a query took long; with the database's plan
    POOL = "pool"  # how full the pool was; belongs to no request

    def __init__(self, name: str) -> None:
        self.number = COUNTS.index(name)


#: Statuses from here on are failures of the server.
FIRST_SERVER_ERROR = 500

#: Each request has exactly one event of these types.
ENDINGS = (EventType.REQUEST, EventType.TIMEOUT, EventType.LOST)

#: The most stack attributes that an event has.
MOST_STACKS = 2

#: The most fields that a `Written` stands for, which is one value of its row.
MOST_WRITTEN = 6

#: The rows that an event begins with whose method, path and status are known.
WHOLE_HEADS = frozenset({HEAD, USUAL, WHOLE, TRACED_WHOLE})

#: Makes the attributes of stacks.
Stacks = Callable[[], Mapping[str, str]]


class CanonicalEvent:
    """One event. Its rows hold every field of the line.

    Args:
        event_type: what it reports.
        rows: the fields, in the order of the line.
        stack: a stack for span and log event; it is too long for a line. Or a function that returns
            several stacks as attributes, called only if the event is exported.
        made_wall_ns: the moment that `ts` shows.
    """

    __slots__ = ("_attributes", "_rows", "_stack", "encoded", "event_type", "made_wall_ns")

    def __init__(
        self,
        event_type: EventType,
        rows: Sequence[FilledRow],
        stack: str | Stacks = "",
        made_wall_ns: int | None = None,
    ) -> None:
        #: What the event reports.
        self.event_type = event_type
        #: The moment that `ts` shows, ns since the epoch; None if it has none.
        self.made_wall_ns = made_wall_ns
        #: Its attributes as an exporter has encoded them, None until one has.
        self.encoded: list[bytes] | None = None
        self._rows = rows
        self._stack = stack
        self._attributes: dict[str, AttributeValue] | None = None

    @classmethod
    def of_pairs(
        cls,
        event_type: EventType,
        pairs: Iterable[Pair],
        stack: str | Stacks = "",
        made_wall_ns: int | None = None,
    ) -> CanonicalEvent:
        """Return the event that has these fields."""
        return cls(event_type, ((LOOSE, tuple(pairs)),), stack, made_wall_ns)

    @property
    def stack(self) -> str:
        """The event's one stack, an empty text if there is none."""
        return self._stack if isinstance(self._stack, str) else ""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every key of the line with its value, in the order of the line."""
        return tuple([pair for row, values in self._rows for pair in row.pairs(values)])

    def as_logfmt(self) -> str:
        """Return the event as one line without a newline."""
        rows = self._rows
        if len(rows) == 1:
            row, values = rows[0]
            return row.as_logfmt(values)
        fields: list[str] = []
        for row, values in rows:
            if text := row.as_logfmt(values):
                fields.append(text)  # a loop: before 3.12 a comprehension is a call
        return " ".join(fields)

    @property
    def rows(self) -> Sequence[FilledRow]:
        """Its rows, in the order of the line; the joined ones are taken apart."""
        return apart(self._rows)

    def has_attributes(self) -> bool:
        """Return whether `attributes` has made them."""
        return self._attributes is not None

    def has_whole_head(self) -> bool:
        """Return whether method, path and status are known."""
        return self._rows[0][0] in WHOLE_HEADS

    def size(self) -> int:
        """Return an upper bound on the number of attributes."""
        most = MOST_STACKS + MOST_WRITTEN
        for _, values in self._rows:
            most += len(values)  # a loop: before 3.12 a comprehension is a call
        return most

    def few_attributes(self) -> Mapping[str, AttributeValue]:
        """Return what says what happened: attributes without the groups of numbers, where that is less work."""
        if self._attributes is not None or self.encoded is None:
            # Until it was encoded it may be too large, and have to be shortened.
            return self.attributes()
        found: dict[str, AttributeValue] = {}
        for row, values in self.rows:
            if row is HEAD or row is LOOSE or row is DETAILS:
                found.update(row.attributes(values))
        return found

    def settle(self) -> None:
        """Make the stacks now, so that the exception and its frames can be freed."""
        if not isinstance(self._stack, str):
            self.attributes()
            self._stack = ""

    def attributes(self) -> dict[str, AttributeValue]:
        """Return the event as span attributes. They are cached: don't change them.

        The app's come first, because the SDK evicts the oldest attributes of a full span.
        """
        if self._attributes is None:
            found: dict[str, AttributeValue] = {}
            for row, values in apart(self._rows):
                if row is LOOSE:  # no other row holds the app's fields
                    app, others = app_and_others(row.attributes(values))
                    found = {**app, **found, **others}
                else:
                    found.update(row.attributes(values))
            if not isinstance(self._stack, str):
                found.update(self._stack())
            elif self._stack:
                found[STACK_ATTRIBUTE] = self._stack
            self._attributes = _fitted(found)
        return self._attributes


def app_and_others(
    loose: Mapping[str, AttributeValue],
) -> tuple[dict[str, AttributeValue], dict[str, AttributeValue]]:
    """Return the app's attributes among some, and the others."""
    app: dict[str, AttributeValue] = {}
    others: dict[str, AttributeValue] = {}
    for name, value in loose.items():
        (app if name.startswith(APP_ATTRIBUTE_PREFIX) else others)[name] = value
    return app, others


#: Also the one-line stack of a `slow` event.
STACK_ATTRIBUTES = frozenset((STACK_ATTRIBUTE, ERROR_STACK_ATTRIBUTE, "canonical.slow_stack"))
PROTECTED_ATTRIBUTES = frozenset(field.attribute for field in FIELDS if field.protected)

TRUNCATED_ATTRIBUTE = "canonical.truncated"

V = TypeVar("V")


def least_important_first(attributes: Mapping[str, V]) -> dict[str, V]:
    """Return attributes in the order in which a full span or log record may lose them.

    First the app's and the stacks, then ours from the end of the line, at last identity and outcome.
    """
    names = list(attributes)
    # Sorting is stable, so that within one importance the end of the line comes first.
    names.reverse()
    names.sort(key=_importance)
    return {name: attributes[name] for name in names}


def _importance(name: str) -> int:
    if name.startswith(APP_ATTRIBUTE_PREFIX):
        return 0
    if name in STACK_ATTRIBUTES:
        return 1
    return 3 if name in PROTECTED_ATTRIBUTES else 2


def _fitted(attributes: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Return attributes that are not too many bytes; stacks are shortened first, they are the longest."""
    return bounds.fit(attributes, _shortened_first, TRUNCATED_ATTRIBUTE)


class _ShortenedFirst(dict[str, int]):
    """The order in which attributes are shortened."""

    def __missing__(self, name: str) -> int:
        return -1 if name in STACK_ATTRIBUTES else _importance(name)


_shortened_first = _ShortenedFirst()


def has_failed(event: CanonicalEvent, status: int | None) -> bool:
    """Return whether an event reports more than a request that the server answered well.

    Args:
        event: any event.
        status: the response's status, None if there is none.
    """
    if event.event_type is not EventType.REQUEST:
        return True
    return status is None or status >= FIRST_SERVER_ERROR


def timestamp(now_ns: int | None = None) -> str:
    """Return a time (nanoseconds since the epoch, default now) in RFC 3339, UTC, with milliseconds."""
    if now_ns is None:
        now_ns = time.time_ns()
    began_ns, text = _this_second[0]
    since_ns = now_ns - began_ns
    if not 0 <= since_ns < _SECOND_NS:
        since_ns = now_ns % _SECOND_NS
        began_ns = now_ns - since_ns
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began_ns // _SECOND_NS))
        _this_second[0] = (began_ns, text)
    return text + _MILLISECONDS[since_ns // 1_000_000]


_SECOND_NS = 1_000_000_000

#: How a timestamp ends: to format a number with zeros in front takes longer than all the rest.
_MILLISECONDS = tuple(f".{millisecond:03d}Z" for millisecond in range(1000))

#: Caches when the current second began and its text, because strftime is the most expensive part of a
#: timestamp. Both are one tuple, so that no thread reads the one of a second with the other of another.
_this_second: list[tuple[int, str]] = [(-_SECOND_NS, "")]
