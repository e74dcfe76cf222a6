"""Holds every event that a test makes against the registry of fields, so that a wrong shape fails everywhere."""

from __future__ import annotations

from collections.abc import Iterable

from otel_canonical.event import logfmt
from otel_canonical.event.event import EventType
from otel_canonical.event.fields import FieldValue
from otel_canonical.event.registry import faults


def faults_of(pairs: Iterable[tuple[str, FieldValue]]) -> list[str]:
    """Return every key, type, order or combination of an event that the registry doesn't know."""
    found = list(pairs)
    return list(faults(EventType(dict(found)["event_type"]), found))


def check_event(pairs: Iterable[tuple[str, FieldValue]]) -> None:
    """Fail if an event is not what the registry allows."""
    found = list(pairs)
    wrong = faults_of(found)
    assert not wrong, f"{wrong}\n{found}"


def check_line(line: str) -> None:
    """Fail if a line of logfmt is not what the registry allows."""
    check_event(logfmt.parse(line).items())
