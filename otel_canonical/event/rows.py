"""Rows: keys that a line shows together, and the quick way to write their values. Pure.

An event is a few rows rather than forty pairs. One string operation writes a row, and what it spends
on a key is spent once, when the row is made: that is most of what a line costs. What is rare stays
pairs, in a `LooseRow`. `row.pairs(values)` are the same facts for those who want them one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from otel_canonical.event import logfmt
from otel_canonical.event.fields import FIELDS, FieldValue, attribute_of

Pair = tuple[str, FieldValue]

_TYPES = {field.key: field.type for field in FIELDS}
#: How numbers, and texts that are known to need no quotes, are written, by the field's type.
_FORMATS = {"int": "%d", "float": "%.6f", "bool": "%s", "str": "%s"}

#: Digits of a number of seconds: microseconds.
_DIGITS = 6


class Row(Protocol):
    """A few facts of an event."""

    def as_logfmt(self, values: Any) -> str:
        """Return the facts as they stand on a line."""

    def pairs(self, values: Any) -> Iterable[Pair]:
        """Return the facts as keys and values."""

    def attributes(self, values: Any) -> dict[str, FieldValue]:
        """Return the facts as span attributes, without those that the span carries itself."""


class PlainRow:
    """Facts that are all there and need no quotes: numbers, durations, ids of our own making.

    Durations are floats in seconds, written to the microsecond. Booleans are given as a line spells
    them, `true` and `false`.
    """

    def __init__(self, *keys: str) -> None:
        self._columns = tuple((key, _TYPES[key]) for key in keys)
        self._attributes = tuple(attribute_of(key) for key in keys)
        named = [(attribute_of(key), _TYPES[key]) for key in keys if attribute_of(key)]
        self._floats = tuple(name for name, type_ in named if type_ == "float")
        self._bools = tuple(name for name, type_ in named if type_ == "bool")
        #: A method of `str`: writing a row calls no Python function.
        self.as_logfmt = " ".join(
            f"{key}={_FORMATS[type_]}" for key, type_ in self._columns
        ).__mod__

    def pairs(self, values: Sequence[Any]) -> Iterable[Pair]:
        """Return the facts as keys and values."""
        for (key, type_), value in zip(self._columns, values, strict=True):
            if type_ == "float":
                yield key, round(value, _DIGITS)
            elif type_ == "bool":
                yield key, value == "true"
            else:
                yield key, value

    def attributes(self, values: Sequence[Any]) -> dict[str, FieldValue]:
        """Return the facts as span attributes."""
        found = dict(zip(self._attributes, values))  # noqa: B905  # strict costs
        for name in self._floats:
            found[name] = round(found[name], _DIGITS)
        for name in self._bools:
            found[name] = found[name] == "true"
        found.pop("", None)  # what the span carries itself
        return found


class TextRow:
    """Facts that may be absent (None) and that may hold anything."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys
        self._attributes = tuple(attribute_of(key) for key in keys)
        self._prefixes = tuple(f"{key}=" for key in keys)

    def as_logfmt(self, values: Sequence[FieldValue | None]) -> str:
        """Return the facts as they stand on a line."""
        known = logfmt.known_values.get
        shown = logfmt.shown
        facts: list[str] = []
        for prefix, value in zip(self._prefixes, values):  # noqa: B905  # strict costs
            if value is not None:
                facts.append(prefix + (known(value) or shown(value)))  # see above
        return " ".join(facts)

    def pairs(self, values: Sequence[FieldValue | None]) -> Iterable[Pair]:
        """Return the facts as keys and values."""
        for key, value in zip(self._keys, values, strict=True):
            if value is not None:
                yield key, value

    def attributes(self, values: Sequence[FieldValue | None]) -> dict[str, FieldValue]:
        """Return the facts as span attributes."""
        return {
            name: value
            for name, value in zip(self._attributes, values)  # noqa: B905  # strict costs
            if value is not None and name
        }


class LooseRow:
    """Facts that bring their keys along."""

    def as_logfmt(self, values: Sequence[Pair]) -> str:
        """Return the facts as they stand on a line."""
        return logfmt.encode(values)

    def pairs(self, values: Sequence[Pair]) -> Iterable[Pair]:
        """Return the facts as keys and values."""
        return values

    def attributes(self, values: Sequence[Pair]) -> dict[str, FieldValue]:
        """Return the facts as span attributes."""
        return {name: value for key, value in values if (name := attribute_of(key))}


#: The one there need be: it keeps nothing.
LOOSE = LooseRow()

# The rows of an event, in the order of the line.
IDENTITY = PlainRow("event_type", "ts", "req_id", "trace_id", "span_id", "sampled")
REQUEST = TextRow(
    *("req_method", "req_path", "req_host", "req_scheme", "req_proto", "req_query", "req_route"),
    *("req_referrer", "req_user_agent", "req_client", "req_bytes", "req_queue_time"),
    *("user_id", "resp_view"),
)
RESPONSE = PlainRow("resp_status", "resp_bytes", "resp_time", "resp_cpu_time", "resp_ttfb")
QUERIES = PlainRow("db_queries", "db_time", "db_dup_queries", "db_dup_time")
TEMPLATES = PlainRow("tpl_renders", "tpl_time")
CACHE = PlainRow("cache_hits", "cache_misses", "cache_time")
POOL = PlainRow("g_w_count", "g_w_active", "g_backlog", "g_t_count", "g_t_active")
POOL_WITH_QUEUES = PlainRow(
    *("g_w_count", "g_w_active", "g_backlog", "g_t_count", "g_t_active", "g_t_waiting")
)
WORKER = PlainRow("g_pid", "g_w_requests")
