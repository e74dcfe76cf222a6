"""Emits the event as an OpenTelemetry log event (`canonical.request` and so on), in its request's trace.

Lives in every process that has an SDK. Backends without traces get the wide event this way.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.util.types import AnyValue

from otel_canonical.event.event import (
    FIRST_SERVER_ERROR,
    CanonicalEvent,
    EventType,
    least_important_first,
)
from otel_canonical.event.summary import summary
from otel_canonical.otel.event_attributes import EventAttributes
from otel_canonical.otel.exporter_internals import LogQueues
from otel_canonical.otel.otlp_encoder import LOG_RECORDS, encoding_ahead
from otel_canonical.otel.sdk_internals import (
    Logger,
    LogRecord,
    ReadableLogRecord,
    ReadWriteLogRecord,
    SdkLogger,
    SeverityNumber,
    record_limits_of,
)

NAME_PREFIX = "canonical."

#: All other events are INFO; a `request` whose status is 500 or more is ERROR.
_SEVERITIES = {
    EventType.TIMEOUT: SeverityNumber.ERROR,
    EventType.LOST: SeverityNumber.ERROR,
    EventType.SLOW: SeverityNumber.WARN,
    EventType.SLOW_QUERY: SeverityNumber.WARN,
    EventType.PARTIAL_FAILURE: SeverityNumber.WARN,
}


class Kind(NamedTuple):
    """What the log records of one kind of event have in common."""

    name: str
    severity: SeverityNumber
    severity_text: str


def _kind(event_type: EventType, severity: SeverityNumber) -> Kind:
    return Kind(NAME_PREFIX + event_type.value, severity, severity.name)


#: By `EventType.number`: hashing an enum's member, or reading its name, calls Python.
_KINDS = {one.number: _kind(one, _SEVERITIES.get(one, SeverityNumber.INFO)) for one in EventType}
_REQUEST = EventType.REQUEST
_FAILED_REQUEST = _kind(_REQUEST, SeverityNumber.ERROR)


def kind_of(event_type: EventType, status: int | None) -> Kind:
    """Return name and severity of an event; `status` is the response's, None if there is none."""
    if event_type is _REQUEST and status is not None and status >= FIRST_SERVER_ERROR:
        return _FAILED_REQUEST
    return _KINDS[event_type.number]


_NO_CONTEXT = Context()


class EventRecord(LogRecord):
    """An event as a log record that is made when an exporter reads it."""

    # The base class's `__init__` is not called: it needs a context, which nobody reads.
    def __init__(
        self, event: CanonicalEvent, kind: Kind, moment_ns: int, ids: trace.SpanContext
    ) -> None:
        self.timestamp = self.observed_timestamp = moment_ns
        self.trace_id = ids.trace_id
        self.span_id = ids.span_id
        self.trace_flags = ids.trace_flags
        self.severity_number = kind.severity
        self.severity_text = kind.severity_text
        self.event_name = kind.name
        self.attributes = EventAttributes(event)
        self.exception = None
        self.context = _NO_CONTEXT
        self._body: AnyValue = None
        self._event: CanonicalEvent | None = event

    @property
    def body(self) -> AnyValue:
        """The event in a few words. They are made when they are first read, as attributes are."""
        event = self._event
        if event is not None:
            self._event = None
            self._body = summary(event.event_type, event.few_attributes())
        return self._body

    @body.setter
    def body(self, body: AnyValue) -> None:
        """Take another body: repairs change it."""
        self._event = None
        self._body = body


class _Unchecked(ReadWriteLogRecord):
    """A record whose attributes need no check: an event's are valid, and within the limits."""

    def __post_init__(self) -> None:
        """Do nothing, where the SDK checks all attributes, and warns of each record that has too many."""


class LogEvents:
    """Emits events through OpenTelemetry's Logs API.

    Where nothing but the SDK's batch processors listens, records go to their queues: the SDK would check,
    copy and show each of them for nothing.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._limits = record_limits_of(logger)
        self._queues = (
            LogQueues(logger, functools.partial(encoding_ahead, LOG_RECORDS))
            if isinstance(logger, SdkLogger)
            else None
        )

    def emit(self, event: CanonicalEvent, span: trace.Span, status: int | None = None) -> None:
        """Emit an event.

        Args:
            event: the event to emit.
            span: the root of its request.
            status: the response's status, None if there is none.
        """
        logger = self._logger
        kind = kind_of(event.event_type, status)
        # The same moment as the line's.
        moment_ns = event.made_wall_ns or time.time_ns()
        queues = self._queues if self._holds(event) else None
        emits = queues.emits() if queues is not None else ()
        if queues is not None and emits and isinstance(logger, SdkLogger):
            record: LogRecord = EventRecord(event, kind, moment_ns, span.get_span_context())
            readable = ReadableLogRecord(record, logger.resource, logger.instrumentation_scope)
            # Most of it is encoded if the root was; otherwise that is left to the exporter's thread.
            ahead = queues.ahead if event.encoded is not None else None
            waiting = readable if ahead is None else ahead(readable)
            for emit in emits:
                emit(waiting)
            return
        attributes = event.attributes()
        record = LogRecord(
            timestamp=moment_ns,
            observed_timestamp=moment_ns,
            context=trace.set_span_in_context(span),
            severity_text=kind.severity_text,
            severity_number=kind.severity,
            body=summary(event.event_type, attributes),
            attributes=self._bounded(attributes),
            event_name=kind.name,
        )
        if isinstance(logger, SdkLogger):
            facts = (record, logger.resource, logger.instrumentation_scope, self._limits)
            logger.emit(_Unchecked(*facts))  # type: ignore[arg-type]
        else:
            logger.emit(record)

    def _holds(self, event: CanonicalEvent) -> bool:
        """Return whether no limit cuts the attributes of an event."""
        most = self._limits.max_log_record_attributes
        is_long = self._limits.max_log_record_attribute_length is None
        return is_long and (most is None or event.size() <= most)

    def _bounded(self, attributes: Mapping[str, AnyValue]) -> BoundedAttributes:
        return BoundedAttributes(
            self._limits.max_log_record_attributes,
            least_important_first(attributes),
            immutable=False,
            max_value_len=self._limits.max_log_record_attribute_length,
        )
