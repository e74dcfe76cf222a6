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
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.otel.event_attributes import EventAttributes
from otel_canonical.otel.otlp_values import Unusual, any_value, key_values
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

#: `SpanFlags`: "the next bit is valid", and "the parent is in another process".
_KNOWS_REMOTE, _IS_REMOTE = 0x100, 0x200

_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack


# The tags of a `Span`'s fields; those of ids include the length.
_SPAN_TRACE_ID = tag(1, LENGTH) + b"\x10"
_SPAN_SPAN_ID = tag(2, LENGTH) + b"\x08"
_SPAN_TRACE_STATE = 3
_SPAN_PARENT_ID = tag(4, LENGTH) + b"\x08"
_SPAN_NAME = 5
_SPAN_KIND = tag(6, VARINT)
_SPAN_STARTED = tag(7, FIXED64)
_SPAN_ENDED = tag(8, FIXED64)
_SPAN_ATTRIBUTE = tag(9, LENGTH)
_SPAN_DROPPED_ATTRIBUTES = tag(10, VARINT)
_SPAN_STATUS = 15
_LOCAL_PARENT = tag(16, FIXED32) + _fixed32(_KNOWS_REMOTE)
_REMOTE_PARENT = tag(16, FIXED32) + _fixed32(_KNOWS_REMOTE | _IS_REMOTE)
# The fields of a `Status`.
_STATUS_MESSAGE = 2
_STATUS_CODE = tag(3, VARINT)

# The tags of a `LogRecord`'s fields.
_LOG_TIME = tag(1, FIXED64)
_LOG_SEVERITY = tag(2, VARINT)
_LOG_SEVERITY_TEXT = 3
_LOG_BODY = 5
_LOG_ATTRIBUTE = tag(6, LENGTH)
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
    flags = _LOCAL_PARENT
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
            flags = _REMOTE_PARENT
    if attributes:
        # A copy: iterating over the SDK's own mapping calls Python for each item.
        parts.append(_repeated(_SPAN_ATTRIBUTE, key_values(attributes.copy())))
    if span.dropped_attributes:
        parts += (_SPAN_DROPPED_ATTRIBUTES, varint(span.dropped_attributes))
    said = framed(_STATUS_MESSAGE, status.description.encode()) if status.description else b""
    code = status.status_code.value
    parts.append(framed(_SPAN_STATUS, said + _STATUS_CODE + SMALL[code] if code else said))
    parts.append(flags)
    return b"".join(parts)


def _prepared(span: PreparedSpan) -> bytes:
    """Return the content of a `Span`; what is in its shape is encoded once for each shape."""
    ids, parent, shape = span.get_span_context(), span.parent, span.shape
    assert ids is not None
    if not shape.encoded:
        parts = [_known_text(_SPAN_NAME, shape.name), _SPAN_KIND, SMALL[shape.kind.value + 1]]
        parts.append(_repeated(_SPAN_ATTRIBUTE, key_values(shape.attributes)))
        parts.append(framed(_SPAN_STATUS, b""))
        shape.encoded = b"".join(parts)
    parts = [
        *(_SPAN_TRACE_ID, ids.trace_id.to_bytes(16, "big")),
        *(_SPAN_SPAN_ID, ids.span_id.to_bytes(8, "big")),
        *(_SPAN_STARTED, _fixed64(span.start_time), _SPAN_ENDED, _fixed64(span.end_time)),
        shape.encoded,
    ]
    flags = _LOCAL_PARENT
    if parent is not None:
        parts += (_SPAN_PARENT_ID, parent.span_id.to_bytes(8, "big"))
        if parent.is_remote:
            flags = _REMOTE_PARENT
    if span.event is not None:
        parts.append(_repeated(_SPAN_ATTRIBUTE, _of_event(span.event)))
    if ids.trace_state:
        parts.append(_trace_state(ids))
    parts.append(flags)
    return b"".join(parts)


def _of_event(event: CanonicalEvent) -> list[bytes]:
    """Return the attributes of an event, encoded once for span and log record."""
    if event.encoded is None:
        event.encoded = key_values(event.attributes())
    return event.encoded


def _repeated(field: bytes, messages: list[bytes]) -> bytes:
    """Return a repeated field, given its tag and its messages with their sizes."""
    return field + field.join(messages) if messages else b""


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
    event = attributes.event if type(attributes) is EventAttributes else None
    if event is not None:
        parts.append(_repeated(_LOG_ATTRIBUTE, _of_event(event)))
    elif attributes:
        parts.append(_repeated(_LOG_ATTRIBUTE, key_values(attributes.copy())))
    if readable.dropped_attributes:
        parts += (_LOG_DROPPED_ATTRIBUTES, varint(readable.dropped_attributes))
    if record.trace_flags:
        parts += (_LOG_FLAGS, _fixed32(record.trace_flags))
    if record.trace_id:
        parts += (_LOG_TRACE_ID, record.trace_id.to_bytes(16, "big"))
    if record.span_id:
        parts += (_LOG_SPAN_ID, record.span_id.to_bytes(8, "big"))
    return b"".join(parts)
