"""Rows: groups of fields that a line shows together, with a fast way to write their values. Pure.

An event is a few rows instead of forty pairs. A row prepares its keys once and is then written by one
string operation; keys are most of what a line costs. (With `LooseRow` only, writing a line takes 31 µs
instead of 10.7.) Rare fields are pairs in a `LooseRow`. `row.pairs(values)` returns the fields one by one.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from otel_canonical.event import logfmt
from otel_canonical.event.fields import FIELDS, AttributeValue, FieldValue, attribute_of
from otel_canonical.event.row_text import RowText
from otel_canonical.event.row_text import seconds as seconds
from otel_canonical.event.row_text import seconds_text as seconds_text

Pair = tuple[str, FieldValue]

#: The values of a row, in the order of its keys. Their types depend on the row, which a type of a pair
#: of row and values can't express.
Values = Sequence[Any]

_TYPES = {field.key: field.type for field in FIELDS}


class Row(Protocol):
    """A group of fields of an event."""

    def as_logfmt(self, values: Values) -> str:
        """Return the fields as they are written on a line."""

    def pairs(self, values: Values) -> Iterable[Pair]:
        """Return the fields as keys and values."""

    def attributes(self, values: Values) -> Mapping[str, AttributeValue]:
        """Return the fields as span attributes, without those that the span itself has."""


class PlainRow:
    """Fields that are always present and need no quotes: numbers, durations, ids, checked texts.

    Durations are nanoseconds, shown in seconds to the microsecond. Booleans are passed as the texts `true`
    and `false`.

    Args:
        keys: of the fields, in the order of the line.
        remembered: how many texts are remembered, of a row whose values come again.
    """

    def __init__(self, *keys: str, remembered: int = 0) -> None:
        self.columns = tuple((key, _TYPES[key]) for key in keys)
        self.attribute_names = tuple(attribute_of(key) for key in keys)
        named = [(attribute_of(key), _TYPES[key]) for key in keys if attribute_of(key)]
        self._floats = tuple(name for name, type_ in named if type_ == "float")
        self._bools = tuple(name for name, type_ in named if type_ == "bool")
        self.text = RowText.of_plain(self.columns)
        self.as_logfmt = self.text.compiled(self._as_long_logfmt)
        if remembered:
            self.as_logfmt = functools.lru_cache(maxsize=remembered)(self.as_logfmt)

    def pairs(self, values: Values) -> Iterable[Pair]:
        """Return the fields as keys and values."""
        for (key, type_), value in zip(self.columns, values, strict=True):
            if type_ == "float":
                yield key, seconds(value)
            elif type_ == "bool":
                yield key, value == "true"
            else:
                yield key, value

    def attributes(self, values: Values) -> dict[str, FieldValue]:
        """Return the fields as span attributes."""
        found = dict(zip(self.attribute_names, values))  # noqa: B905  # strict costs
        for name in self._floats:
            found[name] = seconds(found[name])
        for name in self._bools:
            found[name] = found[name] == "true"
        found.pop("", None)  # fields that the span itself has
        return found

    def _as_long_logfmt(self, values: Values) -> str:
        """Return the fields as they are written on a line, if a duration is a second or more."""
        return " ".join(
            [
                f"{key}={seconds(value):.6f}" if type_ == "float" else f"{key}={value}"
                for (key, type_), value in zip(self.columns, values, strict=True)
            ]
        )


class TextRow:
    """Fields that may be absent (None) and hold any text."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys
        self.attribute_names = tuple(attribute_of(key) for key in keys)
        self.text = RowText.of_texts(keys)
        self.as_logfmt = self.text.compiled(lambda values: logfmt.encode(self.pairs(values)))

    def pairs(self, values: Sequence[FieldValue | None]) -> Iterable[Pair]:
        """Return the fields as keys and values."""
        for key, value in zip(self._keys, values, strict=True):
            if value is not None:
                yield key, value

    def attributes(self, values: Sequence[FieldValue | None]) -> dict[str, FieldValue]:
        """Return the fields as span attributes."""
        return {
            name: value
            for name, value in zip(self.attribute_names, values)  # noqa: B905  # strict costs
            if value is not None and name
        }


class Written(NamedTuple):
    """A row, its values, and their text with a space in front: for what comes again in many events."""

    row: Row
    values: Values
    text: str

    @classmethod
    def of(cls, row: Row, values: Values) -> Written:
        """Return a row with its text."""
        return cls(row, values, f" {row.as_logfmt(values)}")


class WrittenRow:
    """Stands in a joined row for one that is written already: its one value is a `Written`."""

    text = RowText(["{%s.text}"])


#: The only instance needed: it has no state.
WRITTEN = WrittenRow()


class JoinedRow:
    """Rows that stand together on most lines, written in one step.

    Its values are those of the rows, one behind the other.

    Args:
        rows: in the order of the line.
    """

    def __init__(self, *rows: PlainRow | TextRow | WrittenRow) -> None:
        self._parts: list[tuple[PlainRow | TextRow | WrittenRow, slice]] = []
        start = 0
        for row in rows:
            end = start + len(row.text.fields)
            # What is too much falls to the last row, which refuses it.
            self._parts.append((row, slice(start, end if row is not rows[-1] else None)))
            start = end
        text = functools.reduce(operator.add, [row.text for row in rows])
        self.as_logfmt = text.compiled(self._as_long_logfmt)

    def parts(self, values: Values) -> list[FilledRow]:
        """Return the rows, each with its own values."""
        found: list[FilledRow] = []
        for row, place in self._parts:
            if isinstance(row, WrittenRow):
                (written,) = values[place]
                found.append((written.row, written.values))
            else:
                found.append((row, values[place]))
        return found

    def pairs(self, values: Values) -> Iterable[Pair]:
        """Return the fields as keys and values."""
        return [pair for row, part in self.parts(values) for pair in row.pairs(part)]

    def attributes(self, values: Values) -> dict[str, AttributeValue]:
        """Return the fields as span attributes."""
        found: dict[str, AttributeValue] = {}
        for row, part in self.parts(values):
            found.update(row.attributes(part))
        return found

    def _as_long_logfmt(self, values: Values) -> str:
        """Return the fields as they are written on a line, if a duration is a second or more."""
        texts = [row.as_logfmt(part) for row, part in self.parts(values)]
        return " ".join([text for text in texts if text])


class LooseRow:
    """Fields whose values are pairs of key and value."""

    def as_logfmt(self, values: Sequence[Pair]) -> str:
        """Return the fields as they are written on a line."""
        return logfmt.encode(values)

    def pairs(self, values: Sequence[Pair]) -> Iterable[Pair]:
        """Return the fields as keys and values."""
        return values

    def attributes(self, values: Sequence[Pair]) -> dict[str, FieldValue]:
        """Return the fields as span attributes."""
        return {name: value for key, value in values if (name := attribute_of(key))}


#: The only instance needed: it has no state.
LOOSE = LooseRow()

#: A key, its value on a line (None if it isn't there), and its value as an attribute.
Detail = tuple[str, FieldValue | None, AttributeValue]


#: Texts of SQL and locations come again, and writing one takes 13 µs.
known_text = functools.lru_cache(maxsize=512)(logfmt.shown)


class DetailsRow:
    """Fields of which spans and log events show more than a line: longer texts, and lists."""

    def as_logfmt(self, values: Sequence[Detail]) -> str:
        """Return the fields as they are written on a line."""
        return " ".join(
            [
                f"{key}={known_text(on_line) if type(on_line) is str else logfmt.shown(on_line)}"
                for key, on_line, _ in values
                if on_line is not None
            ]
        )

    def pairs(self, values: Sequence[Detail]) -> Iterable[Pair]:
        """Return the fields of the line as keys and values."""
        return [(key, on_line) for key, on_line, _ in values if on_line is not None]

    def attributes(self, values: Sequence[Detail]) -> dict[str, AttributeValue]:
        """Return the fields as span attributes."""
        return {attribute_of(key): value for key, _, value in values}


#: The only instance needed, too.
DETAILS = DetailsRow()

#: How many states of a pool are remembered: they are a few small numbers, and come again.
POOLS_REMEMBERED = 512

#: A row and its values.
FilledRow = tuple[Row, Values]


def apart(rows: Iterable[FilledRow]) -> list[FilledRow]:
    """Return rows and values with the joined ones taken apart."""
    found: list[FilledRow] = []
    for row, values in rows:
        if isinstance(row, JoinedRow):
            found += row.parts(values)
        else:
            found.append((row, values))
    return found


# The rows of an event, in the order of the line.
HEAD = PlainRow("ts", "event_type", "req_method", "req_path", "resp_status", "resp_time")
REQUESTER = TextRow(
    *("req_route", "resp_view", "user_id", "req_client", "req_host", "req_scheme", "req_proto"),
    *("req_query", "req_referrer", "req_user_agent", "req_bytes", "req_queue_time"),
)
STATES = PlainRow("resp_cpu_wait", "resp_blocked")
#: With what every request of Django's has, in a class whose threads serve one request at a time.
RESPONSE_BY_PLACE = PlainRow(
    *("resp_bytes", "resp_ttfb", "resp_cpu_time", "resp_cpu_wait", "resp_blocked"),
    *("mw_time", "view_time", "resp_other_time"),
)
PLACES = PlainRow("mw_time", "view_time", "resp_other_time")
QUERIES = PlainRow(
    *("db_queries", "db_time", "db_dup_queries", "db_dup_time", "db_fetch_time", "db_rows")
)
CONNECTS = PlainRow("db_connects", "db_connect_time")
TRANSACTIONS = PlainRow("db_txn_time")
TEMPLATES = PlainRow("tpl_renders", "tpl_time")
CACHE = PlainRow("cache_hits", "cache_misses", "cache_time")
POOL = PlainRow(
    *("g_w_count", "g_w_active", "g_backlog", "g_t_count", "g_t_active"),
    remembered=POOLS_REMEMBERED,
)
POOL_WITH_QUEUES = PlainRow(
    *("g_w_count", "g_w_active", "g_backlog", "g_t_count", "g_t_active", "g_t_waiting"),
    remembered=POOLS_REMEMBERED,
)
IDS = PlainRow("g_pid", "g_w_requests", "req_id")
TRACED_IDS = PlainRow("g_pid", "g_w_requests", "req_id", "trace_id", "span_id", "sampled")
#: How most lines begin: all of it is known.
USUAL = JoinedRow(HEAD, REQUESTER, RESPONSE_BY_PLACE)
#: And how they end; the pool is a `Written`.
LAST = JoinedRow(WRITTEN, IDS)
TRACED_LAST = JoinedRow(WRITTEN, TRACED_IDS)
#: The lines that have nothing in between.
WHOLE = JoinedRow(HEAD, REQUESTER, RESPONSE_BY_PLACE, WRITTEN, IDS)
TRACED_WHOLE = JoinedRow(HEAD, REQUESTER, RESPONSE_BY_PLACE, WRITTEN, TRACED_IDS)
