"""Encodes spans and log records as OTLP's protobuf, byte by byte.

Raises `Unusual` for anything but plain attributes; the caller then uses upstream's encoder. Lives in the
worker, in the exporters' threads, which share the GIL with the requests. Upstream makes message objects
of each attribute and value and copies them into one another, which is most of what an export costs.
Field numbers are those of opentelemetry-proto (`trace.proto`, `logs.proto`, `common.proto`); tags and
lengths follow https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from otel_canonical.otel.prepared_spans import PreparedSpan
from otel_canonical.otel.protobuf import (
    FIXED32,
    FIXED64,
    LENGTH,
    SMALL,
    VARINT,
    framed,
    tag,
    varint,
)

if TYPE_CHECKING:
    from otel_canonical.otel.sdk_internals import ReadableLogRecord

#: Bounds the attribute names whose encoding is kept; an app that makes up names empties the cache.
MOST_NAMES = 2048
#: Bounds the text attributes whose encoding is kept, and the length of each in characters.
MOST_TEXTS, LONGEST_TEXT = 1024, 512

#: `SpanFlags`: "the next bit is valid", and "the parent is in another process".
_KNOWS_REMOTE, _IS_REMOTE = 0x100, 0x200

_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack
_double = struct.Struct("<d").pack


class Unusual(Exception):
    """Raised for what is not encoded here; upstream's encoder must do it."""


# The fields of a `KeyValue`, and the kinds of an `AnyValue`.
_KEY, _VALUE = 1, 2
_ANY_TEXT = 1
_ANY_BOOL = tag(2, VARINT)
_ANY_INT = tag(3, VARINT)
_ANY_FLOAT = tag(4, FIXED64)
_ANY_ARRAY = 5


class _Name(NamedTuple):
    """The encoding of an attribute without its value."""

    key: bytes
    true: bytes
    false: bytes
    #: Everything before the eight bytes of a float.
    before_float: bytes
    #: Everything before the bytes of an integer, by how many these are.
    before_int: tuple[bytes, ...]


class _Attributes:
    """Encodes attributes as a repeated field of `KeyValue` messages."""

    def __init__(self, field: int) -> None:
        self._field = field
        self._names: dict[str, _Name] = {}
        #: Most texts recur: methods, routes, views, statements.
        self._texts: dict[tuple[str, str], bytes] = {}

    def write(self, attributes: Mapping[str, Any], parts: list[bytes]) -> None:
        """Append the encoding of all attributes to `parts`."""
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
                number = SMALL[value] if 0 <= value < len(SMALL) else varint(value)
                parts += (known.before_int[len(number)], number)
            elif kind is bool:
                parts.append(known.true if value else known.false)
            else:
                parts.append(framed(self._field, known.key + framed(_VALUE, any_value(value))))

    def _text(self, name: str, value: str) -> bytes:
        known = self._names.get(name) or self._learn(name)
        written = framed(self._field, known.key + framed(_VALUE, any_value(value)))
        if len(value) <= LONGEST_TEXT:
            if len(self._texts) >= MOST_TEXTS:
                self._texts.clear()
            self._texts[name, value] = written
        return written

    def _learn(self, name: str) -> _Name:
        if len(self._names) >= MOST_NAMES:
            self._names.clear()
        key = framed(_KEY, name.encode())
        ints = [
            framed(self._field, key + framed(_VALUE, _ANY_INT + bytes(size))) for size in range(11)
        ]
        known = self._names[name] = _Name(
            key=key,
            true=framed(self._field, key + framed(_VALUE, any_value(True))),
            false=framed(self._field, key + framed(_VALUE, any_value(False))),
            before_float=framed(self._field, key + framed(_VALUE, any_value(0.0)))[:-8],
            before_int=tuple(written[: len(written) - size] for size, written in enumerate(ints)),
        )
        return known


def any_value(value: object) -> bytes:
    """Return the content of an `AnyValue`.

    Raises:
        Unusual: the value is no text, number or boolean, nor a sequence of these.
        UnicodeEncodeError: it is a text with a lone surrogate.
        OverflowError: it is a number of more than 64 bits.
    """
    kind = type(value)
    if kind is str:
        return framed(_ANY_TEXT, str(value).encode())
    if kind is bool:
        return _ANY_BOOL + (b"\x01" if value else b"\x00")
    if kind is int:
        return _ANY_INT + varint(int(value))  # type: ignore[call-overload]
    if kind is float:
        return _ANY_FLOAT + _double(value)
    if kind is tuple or kind is list:
        values: Any = value
        return framed(_ANY_ARRAY, b"".join([framed(1, any_value(one)) for one in values]))
    raise Unusual(kind.__name__)


# The tags of a `Span`'s fields; those of ids include the length.
_SPAN_TRACE_ID = tag(1, LENGTH) + b"\x10"
_SPAN_SPAN_ID = tag(2, LENGTH) + b"\x08"
_SPAN_TRACE_STATE = 3
_SPAN_PARENT_ID = tag(4, LENGTH) + b"\x08"
_SPAN_NAME = 5
_SPAN_KIND = tag(6, VARINT)
_SPAN_STARTED = tag(7, FIXED64)
_SPAN_ENDED = tag(8, FIXED64)
_span_attributes = _Attributes(9)
_SPAN_DROPPED_ATTRIBUTES = tag(10, VARINT)
_SPAN_STATUS = 15
_SPAN_FLAGS = tag(16, FIXED32)
# The fields of a `Status`.
_STATUS_MESSAGE = 2
_STATUS_CODE = tag(3, VARINT)

# The tags of a `LogRecord`'s fields.
_LOG_TIME = tag(1, FIXED64)
_LOG_SEVERITY = tag(2, VARINT)
_LOG_SEVERITY_TEXT = 3
_LOG_BODY = 5
_log_attributes = _Attributes(6)
_LOG_DROPPED_ATTRIBUTES = tag(7, VARINT)
_LOG_FLAGS = tag(8, FIXED32)
_LOG_TRACE_ID = tag(9, LENGTH) + b"\x10"
_LOG_SPAN_ID = tag(10, LENGTH) + b"\x08"
_LOG_OBSERVED_TIME = tag(11, FIXED64)
_LOG_EVENT_NAME = 12


@functools.lru_cache(maxsize=1024)
def _known_text(field: int, text: str) -> bytes:
    """Return a field with a text that recurs."""
    return framed(field, text.encode())


def span(span: ReadableSpan) -> bytes:
    """Return the content of a `Span`.

    Raises:
        Unusual: it has events, links, or an attribute that `any_value` doesn't encode.
        Exception: a value doesn't fit its field.
    """
    if type(span) is PreparedSpan:
        return _prepared(span)
    if span.events or span.links or span.dropped_events or span.dropped_links:
        raise Unusual("events and links")
    ids: Any = span.get_span_context()
    attributes: Any = span.attributes
    parent = span.parent
    status = span.status
    flags = _KNOWS_REMOTE
    parts = [
        *(_SPAN_TRACE_ID, ids.trace_id.to_bytes(16, "big")),
        *(_SPAN_SPAN_ID, ids.span_id.to_bytes(8, "big")),
        _known_text(_SPAN_NAME, span.name),
        *(_SPAN_KIND, SMALL[span.kind.value + 1]),
        *(_SPAN_STARTED, _fixed64(span.start_time)),
        *(_SPAN_ENDED, _fixed64(span.end_time)),
    ]
    if ids.trace_state:
        parts.append(_trace_state(ids))
    if parent is not None:
        parts += (_SPAN_PARENT_ID, parent.span_id.to_bytes(8, "big"))
        if parent.is_remote:
            flags |= _IS_REMOTE
    if attributes:
        # A copy: iterating over the SDK's own mapping calls Python for each item.
        _span_attributes.write(attributes.copy(), parts)
    if span.dropped_attributes:
        parts += (_SPAN_DROPPED_ATTRIBUTES, varint(span.dropped_attributes))
    said = framed(_STATUS_MESSAGE, status.description.encode()) if status.description else b""
    code = status.status_code.value
    parts.append(framed(_SPAN_STATUS, said + _STATUS_CODE + SMALL[code] if code else said))
    parts += (_SPAN_FLAGS, _fixed32(flags))
    return b"".join(parts)


def _prepared(span: PreparedSpan) -> bytes:
    """Return the content of a `Span`; all but ids and times is encoded once for each shape."""
    ids, parent, shape = span.get_span_context(), span.parent, span.shape
    assert ids is not None
    assert parent is not None  # the request's root, or a span below it
    if not shape.encoded:
        parts = [_known_text(_SPAN_NAME, shape.name), _SPAN_KIND, SMALL[shape.kind.value + 1]]
        _span_attributes.write(shape.attributes, parts)
        parts += (framed(_SPAN_STATUS, b""), _SPAN_FLAGS, _fixed32(_KNOWS_REMOTE))
        shape.encoded = b"".join(parts)
    trace_id = ids.trace_id.to_bytes(16, "big")
    written = b"".join(
        (
            *(_SPAN_TRACE_ID, trace_id, _SPAN_SPAN_ID, ids.span_id.to_bytes(8, "big")),
            *(_SPAN_PARENT_ID, parent.span_id.to_bytes(8, "big")),
            *(_SPAN_STARTED, _fixed64(span.start_time), _SPAN_ENDED, _fixed64(span.end_time)),
            shape.encoded,
        )
    )
    return written + _trace_state(ids) if ids.trace_state else written


def _trace_state(ids: SpanContext) -> bytes:
    state = ",".join(f"{name}={value}" for name, value in ids.trace_state.items())
    return framed(_SPAN_TRACE_STATE, state.encode())


def log_record(readable: ReadableLogRecord) -> bytes:
    """Return the content of a `LogRecord`.

    Raises:
        Unusual: it has an attribute that `any_value` doesn't encode.
        Exception: a value doesn't fit its field.
    """
    record = readable.log_record
    parts: list[bytes] = []
    if record.timestamp:
        parts += (_LOG_TIME, _fixed64(record.timestamp))
    if record.observed_timestamp:
        parts += (_LOG_OBSERVED_TIME, _fixed64(record.observed_timestamp))
    if record.severity_number is not None:
        parts += (_LOG_SEVERITY, SMALL[record.severity_number.value])
    if record.severity_text:
        parts.append(_known_text(_LOG_SEVERITY_TEXT, record.severity_text))
    if record.event_name:
        parts.append(_known_text(_LOG_EVENT_NAME, record.event_name))
    parts.append(framed(_LOG_BODY, any_value(record.body) if record.body is not None else b""))
    attributes: Any = record.attributes
    if attributes:
        _log_attributes.write(attributes.copy(), parts)
    if readable.dropped_attributes:
        parts += (_LOG_DROPPED_ATTRIBUTES, varint(readable.dropped_attributes))
    if record.trace_flags:
        parts += (_LOG_FLAGS, _fixed32(record.trace_flags))
    if record.trace_id:
        parts += (_LOG_TRACE_ID, record.trace_id.to_bytes(16, "big"))
    if record.span_id:
        parts += (_LOG_SPAN_ID, record.span_id.to_bytes(8, "big"))
    return b"".join(parts)
