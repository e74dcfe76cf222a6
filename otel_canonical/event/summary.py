"""An event in a few words, for lists that show one text for each event: the body of its log event. Pure.

`collector-lines.yaml` makes the same text of a line, in OTTL.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_canonical.event.event import EventType
from otel_canonical.event.fields import AttributeValue

#: Behind these words stands where the request was.
_LOCATIONS = {
    EventType.REQUEST: "canonical.exc_cause_loc",
    EventType.TIMEOUT: "canonical.timeout_cause_loc",
    EventType.LOST: "canonical.lost_cause_loc",
    EventType.SLOW: "canonical.slow_cause_loc",
    EventType.PARTIAL_FAILURE: "canonical.exc_cause_loc",
    EventType.SLOW_QUERY: "canonical.db.query_loc",
}
#: What went wrong, if no attribute says it.
_WORDS = {EventType.TIMEOUT: "timeout", EventType.LOST: "lost", EventType.SLOW: "slow"}


def summary(event_type: EventType, attributes: Mapping[str, AttributeValue]) -> str:
    """Return what a person wants to know first: request, status, time, and what went wrong where.

    Args:
        event_type: of the event.
        attributes: the event's, already redacted.
    """
    get = attributes.get
    method, path = get("http.request.method"), get("url.path")
    parts = [event_type.value if method is None or path is None else f"{method} {path}"]
    status = get("http.response.status_code")
    if status is not None:
        parts.append(str(status))
    elapsed = get(
        "canonical.db.query_time" if event_type is EventType.SLOW_QUERY else "canonical.duration"
    )
    if elapsed is not None:
        parts.append(f"{elapsed:.3f}s")
    parts.append(_what_went_wrong(event_type, attributes))
    location = get(_LOCATIONS.get(event_type, ""))
    if location is not None:
        parts.append(f"at {location}")
    return " ".join(filter(None, parts))


def _what_went_wrong(event_type: EventType, attributes: Mapping[str, AttributeValue]) -> str:
    """Return the exception, the cause of death, or what this type of event means."""
    if event_type is EventType.LOST and "canonical.lost_cause" in attributes:
        return f"lost: {attributes['canonical.lost_cause']}"
    return _WORDS.get(event_type) or str(attributes.get("exception.type", ""))
