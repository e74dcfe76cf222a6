"""Emits the event as an OpenTelemetry log event (`canonical.request` and so on), in its request's trace.

Lives in every process that has an SDK. Backends without traces get the wide event this way.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
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
from otel_canonical.otel.sdk_internals import (
    Logger,
    LogRecord,
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


class EventRecord(LogRecord):
    """An event as a log record."""

    # The base class's `__init__` is not called: it needs a context, which is rarely read.
    def __init__(
        self,
        event: CanonicalEvent,
        attributes: MutableMapping[str, AnyValue],
        span: trace.Span,
        status: int | None,
    ) -> None:
        ids = span.get_span_context()
        kind = kind_of(event.event_type, status)
        # The same moment as the line's.
        self.timestamp = self.observed_timestamp = event.made_wall_ns or time.time_ns()
        self.trace_id = ids.trace_id
        self.span_id = ids.span_id
        self.trace_flags = ids.trace_flags
        self.severity_number = kind.severity
        self.severity_text = kind.severity_text
        self.event_name = kind.name
        self.attributes = attributes
        self.exception = None
        self._body: AnyValue = None
        self._event: CanonicalEvent | None = event
        self._span: trace.Span | None = span

    @property
    def body(self) -> AnyValue:
        """The event in a few words. They are made when they are first read, as attributes are."""
        event = self._event
        if event is not None:
            self._event = None
            self._body = summary(event.event_type, event.attributes())
        return self._body

    @body.setter
    def body(self, body: AnyValue) -> None:
        """Take another body: repairs and processors of the user's change it."""
        self._event = None
        self._body = body

    @property
    def context(self) -> Context:
        """The context of the request's root."""
        return trace.set_span_in_context(self._span) if self._span is not None else Context()

    @context.setter
    def context(self, context: Context) -> None:
        """Forget the request: a batch processor sets an empty context on what it queues."""
        self._span = None

    def __copy__(self) -> EventRecord:
        # The default goes through `pickle`'s protocol; each record is copied once, by its processor.
        copied = EventRecord.__new__(EventRecord)
        copied.__dict__.update(self.__dict__)
        return copied


class _Unchecked(ReadWriteLogRecord):
    """A record whose attributes need no check: an event's are valid."""

    def __post_init__(self) -> None:
        """Do nothing, where the SDK checks and copies all attributes."""


class LogEvents:
    """Emits events through OpenTelemetry's Logs API."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._limits = record_limits_of(logger)

    def emit(self, event: CanonicalEvent, span: trace.Span, status: int | None = None) -> None:
        """Emit an event.

        Args:
            event: the event to emit.
            span: the root of its request.
            status: the response's status, None if there is none.
        """
        record = EventRecord(event, self._attributes(event), span, status)
        logger = self._logger
        if isinstance(logger, SdkLogger):
            unchecked = _Unchecked(
                record, logger.resource, logger.instrumentation_scope, self._limits
            )
            logger.emit(unchecked)  # type: ignore[arg-type]
        else:
            logger.emit(record)

    def _attributes(self, event: CanonicalEvent) -> MutableMapping[str, AnyValue]:
        most = self._limits.max_log_record_attributes
        longest = self._limits.max_log_record_attribute_length
        if longest is None and (most is None or event.size() <= most):
            return EventAttributes(event)
        attributes = least_important_first(event.attributes())
        return BoundedAttributes(most, attributes, immutable=False, max_value_len=longest)
