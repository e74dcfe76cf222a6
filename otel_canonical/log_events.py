"""The event as an OpenTelemetry log event, `canonical.request` and its kin, in the trace it belongs to.

Lives in every process that has an SDK. Backends without traces get the wide event this way.
"""

from __future__ import annotations

import time

from opentelemetry import trace
from opentelemetry._logs import Logger, SeverityNumber

from otel_canonical.event import CanonicalEvent, EventType
from otel_canonical.fields import attribute_of

#: Also the body, so that a backend that shows nothing else shows this.
NAME_PREFIX = "canonical."

FIRST_SERVER_ERROR = 500

_SEVERITIES = {
    EventType.TIMEOUT: SeverityNumber.ERROR,
    EventType.LOST: SeverityNumber.ERROR,
    EventType.SLOW: SeverityNumber.WARN,
    EventType.PARTIAL_FAILURE: SeverityNumber.WARN,
}


class LogEvents:
    """Emits events through OpenTelemetry's Logs API."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def emit(self, event: CanonicalEvent, span: trace.Span) -> None:
        """Emit the event in the context of `span`, its request's root."""
        name = NAME_PREFIX + event.event_type.value
        severity = severity_of(event)
        self._logger.emit(
            timestamp=time.time_ns(),
            context=trace.set_span_in_context(span),
            severity_number=severity,
            severity_text=severity.name,
            body=name,
            attributes=event.attributes(),
            event_name=name,
        )


def has_failed(event: CanonicalEvent, status: int | None) -> bool:
    """Return whether an event is of more than INFO, without asking for its facts."""
    if event.event_type is not EventType.REQUEST:
        return True
    return status is None or status >= FIRST_SERVER_ERROR


def severity_of(event: CanonicalEvent) -> SeverityNumber:
    """Return ERROR for what failed, WARN for what the app survived or is slow, else INFO."""
    known = _SEVERITIES.get(event.event_type)
    if known is not None:
        return known
    status = event.attributes().get(attribute_of("resp_status"))
    failed = isinstance(status, int) and status >= FIRST_SERVER_ERROR
    return SeverityNumber.ERROR if failed else SeverityNumber.INFO
