"""Copies of spans and log records with texts in the place of what OTLP can't hold.

Lives in the worker, in the exporters' threads. Names that are no text, lone surrogates and the like make
the encoder raise, and the whole batch with other requests' spans would be lost
(https://github.com/open-telemetry/opentelemetry-python/issues/3918).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status

from otel_canonical.event.fields import field_value
from otel_canonical.event.logfmt import as_text

if TYPE_CHECKING:
    from otel_canonical.otel.sdk_internals import ReadableLogRecord


def repaired_span(span: ReadableSpan) -> ReadableSpan:
    """Return a copy of a span that can be encoded."""
    status = span.status
    description = None if status.description is None else text(status.description)
    return copy_of(
        span,
        name=text(span.name),
        attributes=_attributes(span.attributes),
        events=[
            Event(text(event.name), _attributes(event.attributes), event.timestamp)
            for event in span.events
        ],
        status=Status(status.status_code, description),
    )


def repaired_log_record(readable: ReadableLogRecord) -> ReadableLogRecord:
    """Return a copy of a log record that can be encoded."""
    record = copy.copy(readable.log_record)
    record.body = _value(record.body)
    record.attributes = _attributes(record.attributes)
    if record.event_name is not None:
        record.event_name = text(record.event_name)
    return dataclasses.replace(readable, log_record=record)


def copy_of(span: ReadableSpan, **changes: Any) -> ReadableSpan:
    """Return a copy of an ended span with some parts changed; arguments are those of `ReadableSpan`."""
    return ReadableSpan(
        **{
            "name": span.name,
            "context": span.get_span_context(),
            "parent": span.parent,
            "resource": span.resource,
            "attributes": span.attributes,
            "events": span.events,
            "links": span.links,
            "kind": span.kind,
            "instrumentation_scope": span.instrumentation_scope,
            "status": span.status,
            "start_time": span.start_time,
            "end_time": span.end_time,
            **changes,
        }
    )


def text(value: object) -> str:
    """Return a text that can be encoded as UTF-8."""
    return as_text(value).encode("utf-8", "replace").decode()


def _attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {text(name): _value(value) for name, value in (attributes or {}).items()}


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    return value if isinstance(value, bool | int | float | bytes) else text(field_value(value))
