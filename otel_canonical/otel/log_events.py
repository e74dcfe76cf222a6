"""The event as an OpenTelemetry log event, `canonical.request` and its kin, in the trace it belongs to.

Lives in every process that has an SDK. Backends without traces get the wide event this way.
"""

from __future__ import annotations

import functools
import time
from collections import UserDict
from collections.abc import MutableMapping
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk._logs import Logger as SdkLogger
from opentelemetry.sdk._logs import LogRecordLimits, ReadWriteLogRecord

from otel_canonical.event.event import FIRST_SERVER_ERROR, CanonicalEvent, EventType

#: Also the body, so that a backend that shows nothing else shows this.
NAME_PREFIX = "canonical."


#: ERROR is what failed, WARN what the app survived or is slow; all else is INFO.
_SEVERITIES = {
    EventType.TIMEOUT: SeverityNumber.ERROR,
    EventType.LOST: SeverityNumber.ERROR,
    EventType.SLOW: SeverityNumber.WARN,
    EventType.PARTIAL_FAILURE: SeverityNumber.WARN,
}


class Kind(NamedTuple):
    """What all events of a kind have in common as log records."""

    name: str
    severity: SeverityNumber
    severity_text: str


def _kind(event_type: EventType, severity: SeverityNumber) -> Kind:
    return Kind(NAME_PREFIX + event_type.value, severity, severity.name)


#: By `EventType.number`: enums' own hashes and names are calls.
_KINDS = {one.number: _kind(one, _SEVERITIES.get(one, SeverityNumber.INFO)) for one in EventType}
_REQUEST = EventType.REQUEST
_FAILED_REQUEST = _kind(_REQUEST, SeverityNumber.ERROR)


def kind_of(event_type: EventType, status: int | None) -> Kind:
    """Return name and severity of an event; `status` is that of the response, if there is one."""
    if event_type is _REQUEST and status is not None and status >= FIRST_SERVER_ERROR:
        return _FAILED_REQUEST
    return _KINDS[event_type.number]


class EventAttributes(UserDict[str, Any]):
    """The attributes of an event, made when somebody asks for them.

    That is mostly an exporter's thread, which makes many in a row; the thread that has served the
    request has other things to do.
    """

    def __init__(self, event: CanonicalEvent) -> None:
        event.settle()
        self._event = event

    @functools.cached_property
    def data(self) -> dict[str, Any]:  # type: ignore[override]
        """What `UserDict` is about."""
        return dict(self._event.attributes())

    def copy(self) -> dict[str, Any]:  # type: ignore[override]
        """Return what is there as a dictionary."""
        return self.data.copy()


class EventRecord(LogRecord):
    """An event as a log record."""

    # Not the base class's `__init__`: it looks the ids up in a context, which few will ask for.
    def __init__(
        self,
        event: CanonicalEvent,
        attributes: MutableMapping[str, Any],
        span: trace.Span,
        status: int | None,
    ) -> None:
        ids = span.get_span_context()
        kind = kind_of(event.event_type, status)
        self.timestamp = self.observed_timestamp = time.time_ns()
        self.trace_id = ids.trace_id
        self.span_id = ids.span_id
        self.trace_flags = ids.trace_flags
        self.severity_number = kind.severity
        self.severity_text = kind.severity_text
        self.body = self.event_name = kind.name
        self.attributes = attributes
        self.exception = None
        self._span: trace.Span | None = span

    @property
    def context(self) -> Context:
        """The context of the request's root."""
        return trace.set_span_in_context(self._span) if self._span is not None else Context()

    @context.setter
    def context(self, context: Context) -> None:
        """Let go of the request: who queues a record gives it an empty context."""
        self._span = None

    def __copy__(self) -> EventRecord:
        # As `copy` does by itself, without the way through `pickle`: each record is copied once.
        copied = EventRecord.__new__(EventRecord)
        copied.__dict__.update(self.__dict__)
        return copied


class _Unchecked(ReadWriteLogRecord):
    """A record whose attributes the SDK needs not check: they are an event's."""

    def __post_init__(self) -> None:
        """Do nothing, where the SDK reads and copies all attributes."""


class LogEvents:
    """Emits events through OpenTelemetry's Logs API."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._limits = getattr(logger, "_log_record_limits", None) or LogRecordLimits()

    def emit(self, event: CanonicalEvent, span: trace.Span, status: int | None = None) -> None:
        """Emit an event.

        Args:
            event: what is emitted.
            span: the root of its request.
            status: of its response, None if there is none.
        """
        record = EventRecord(event, self._attributes(event), span, status)
        logger = self._logger
        if isinstance(logger, SdkLogger):
            unchecked: Any = _Unchecked(
                record, logger.resource, logger.instrumentation_scope, self._limits
            )
            logger.emit(unchecked)
        else:
            logger.emit(record)

    def _attributes(self, event: CanonicalEvent) -> MutableMapping[str, Any]:
        most = self._limits.max_log_record_attributes
        longest = self._limits.max_log_record_attribute_length
        if longest is None and (most is None or event.size() <= most):
            return EventAttributes(event)
        return BoundedAttributes(most, event.attributes(), immutable=False, max_value_len=longest)


def has_failed(event: CanonicalEvent, status: int | None) -> bool:
    """Return whether an event is of more than INFO, without asking for its facts."""
    if event.event_type is not EventType.REQUEST:
        return True
    return status is None or status >= FIRST_SERVER_ERROR
