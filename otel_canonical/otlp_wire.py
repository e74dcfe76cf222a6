"""Spans and log records as OTLP's protobuf, written in bytes. Of plain facts: who has others, raises.

Lives in the worker, in the exporters' threads, which take turns with the requests. Upstream makes a
message object of each attribute and each value, and copies them into one another: most of what it costs
to export. Field numbers are those of opentelemetry-proto (`trace.proto`, `logs.proto`, `common.proto`),
tags and lengths as protobuf's encoding has them.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

#: Distinct attribute names whose bytes are kept. Names are few; those who make them up start anew.
MOST_NAMES = 2048
#: Distinct attributes with a text whose bytes are kept, and the longest of these, in characters.
MOST_TEXTS, LONGEST_TEXT = 1024, 512

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

#: Of `SpanFlags`: that the next bit is meant, and that the parent is in another process.
_KNOWS_REMOTE, _IS_REMOTE = 0x100, 0x200

_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack
_double = struct.Struct("<d").pack


class Unusual(Exception):
    """A fact that is not written here."""


def varint(number: int) -> bytes:
    """Return an integer of at most 64 bits as protobuf writes it, seven bits a byte, lowest first.

    Raises:
        OverflowError: it has more bits.
    """
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(f"{number} has more than 64 bits")
    number &= (1 << 64) - 1
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


#: Small numbers: kinds, codes.
_SMALL = tuple(varint(number) for number in range(128))


def framed(field: int, content: bytes) -> bytes:
    """Return a field of a message that holds bytes, a text or another message."""
    return varint(field << 3 | _LENGTH) + varint(len(content)) + content


class _Name(NamedTuple):
    """What of an attribute is the same whatever its value."""

    key: bytes
    true: bytes
    false: bytes
    #: All but the eight bytes of a float.
    before_float: bytes
    #: All but the bytes of a whole number, by how many these are.
    before_int: tuple[bytes, ...]


class _Attributes:
    """Writes attributes as one field of a message, a `KeyValue` each."""

    def __init__(self, field: int) -> None:
        self._field = field
        self._names: dict[str, _Name] = {}
        #: Most texts come again: methods, routes, views, statements.
        self._texts: dict[tuple[str, str], bytes] = {}

    def write(self, attributes: Mapping[str, Any], parts: list[bytes]) -> None:
        """Append the bytes of all attributes to `parts`."""
        names = self._names
        texts = self._texts
        for name, value in attributes.items():
            kind = type(value)
            if kind is str:
                parts.append(texts.get((name, value)) or self._text(name, value))
                continue
            known = names.get(name) or self._learn(name)
            if kind is float:
                parts += (known.before_float, _double(value))
            elif kind is int:
                number = _SMALL[value] if 0 <= value < len(_SMALL) else varint(value)
                parts += (known.before_int[len(number)], number)
            elif kind is bool:
                parts.append(known.true if value else known.false)
            else:
                parts.append(framed(self._field, known.key + framed(2, any_value(value))))

    def _text(self, name: str, value: str) -> bytes:
        known = self._names.get(name) or self._learn(name)
        written = framed(self._field, known.key + framed(2, framed(1, value.encode())))
        if len(value) <= LONGEST_TEXT:
            if len(self._texts) >= MOST_TEXTS:
                self._texts.clear()
            self._texts[name, value] = written
        return written

    def _learn(self, name: str) -> _Name:
        if len(self._names) >= MOST_NAMES:
            self._names.clear()
        key = framed(1, name.encode())
        ints = [framed(self._field, key + framed(2, b"\x18" + bytes(size))) for size in range(11)]
        known = self._names[name] = _Name(
            key=key,
            true=framed(self._field, key + framed(2, any_value(True))),
            false=framed(self._field, key + framed(2, any_value(False))),
            before_float=framed(self._field, key + framed(2, any_value(0.0)))[:-8],
            before_int=tuple(written[: len(written) - size] for size, written in enumerate(ints)),
        )
        return known


def any_value(value: object) -> bytes:
    """Return the content of an `AnyValue`.

    Raises:
        Unusual: no text, number or boolean, nor several of these.
        UnicodeEncodeError: a text with half a surrogate pair.
        OverflowError: a number of more than 64 bits.
    """
    kind = type(value)
    if kind is str:
        return framed(1, str(value).encode())
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int:
        return b"\x18" + varint(int(value))  # type: ignore[call-overload]
    if kind is float:
        return b"\x21" + _double(value)
    if kind is tuple or kind is list:
        values: Any = value
        return framed(5, b"".join([framed(1, any_value(one)) for one in values]))
    raise Unusual(kind.__name__)


_span_attributes = _Attributes(9)
_log_attributes = _Attributes(6)


@functools.lru_cache(maxsize=1024)
def _known_text(field: int, text: str) -> bytes:
    """Return a field with a text of which there are few."""
    return framed(field, text.encode())


def span(span: ReadableSpan) -> bytes:
    """Return the content of a `Span`.

    Raises:
        Unusual: it has events or links, or a fact that `any_value` doesn't write.
        Exception: a fact that has no place in a `Span`.
    """
    if span.events or span.links or span.dropped_events or span.dropped_links:
        raise Unusual("events and links")
    ids: Any = span.get_span_context()
    attributes: Any = span.attributes
    parent = span.parent
    status = span.status
    flags = _KNOWS_REMOTE
    parts = [
        *(b"\x0a\x10", ids.trace_id.to_bytes(16, "big")),
        *(b"\x12\x08", ids.span_id.to_bytes(8, "big")),
        _known_text(5, span.name),
        *(b"\x30", _SMALL[span.kind.value + 1]),
        *(b"\x39", _fixed64(span.start_time)),
        *(b"\x41", _fixed64(span.end_time)),
    ]
    if ids.trace_state:
        state = ",".join(f"{name}={value}" for name, value in ids.trace_state.items())
        parts.append(framed(3, state.encode()))
    if parent is not None:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
        if parent.is_remote:
            flags |= _IS_REMOTE
    if attributes:
        # A copy: to go through the SDK's own mapping is a call of Python for each.
        _span_attributes.write(attributes.copy(), parts)
    if span.dropped_attributes:
        parts += (b"\x50", varint(span.dropped_attributes))
    said = framed(2, status.description.encode()) if status.description else b""
    code = status.status_code.value
    parts.append(framed(15, said + b"\x18" + _SMALL[code] if code else said))
    parts += (b"\x85\x01", _fixed32(flags))
    return b"".join(parts)


def log_record(readable: ReadableLogRecord) -> bytes:
    """Return the content of a `LogRecord`.

    Raises:
        Unusual: it has a fact that `any_value` doesn't write.
        Exception: a fact that has no place in a `LogRecord`.
    """
    record = readable.log_record
    parts: list[bytes] = []
    if record.timestamp:
        parts += (b"\x09", _fixed64(record.timestamp))
    if record.observed_timestamp:
        parts += (b"\x59", _fixed64(record.observed_timestamp))
    if record.severity_number is not None:
        parts += (b"\x10", _SMALL[record.severity_number.value])
    if record.severity_text:
        parts.append(_known_text(3, record.severity_text))
    if record.event_name:
        parts.append(_known_text(12, record.event_name))
    parts.append(framed(5, any_value(record.body) if record.body is not None else b""))
    attributes: Any = record.attributes
    if attributes:
        _log_attributes.write(attributes.copy(), parts)
        if readable.dropped_attributes:
            parts += (b"\x38", varint(readable.dropped_attributes))
    if record.trace_flags:
        parts += (b"\x45", _fixed32(record.trace_flags))
    if record.trace_id:
        parts += (b"\x4a\x10", record.trace_id.to_bytes(16, "big"))
    if record.span_id:
        parts += (b"\x52\x08", record.span_id.to_bytes(8, "big"))
    return b"".join(parts)
