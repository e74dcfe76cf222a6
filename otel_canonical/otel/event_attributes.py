"""The attributes of an event for span and log record, made when they are first read."""

from __future__ import annotations

import functools
from collections import UserDict
from collections.abc import Mapping

from opentelemetry.util.types import AnyValue

from otel_canonical.event.event import CanonicalEvent


class EventAttributes(UserDict[str, AnyValue]):
    """The attributes of an event, made when they are first read.

    That is usually in an exporter's thread, so the thread that serves requests doesn't spend the time.

    Args:
        event: the event.
        beside: attributes that it doesn't have; they come first, as they are encoded.
    """

    def __init__(self, event: CanonicalEvent, beside: Mapping[str, AnyValue] | None = None) -> None:
        event.settle()
        self._event = event
        self._beside = beside or {}

    @property
    def event(self) -> CanonicalEvent | None:
        """The event whose attributes they are; None if there may be others by now."""
        return None if self._beside or "data" in vars(self) else self._event

    @functools.cached_property
    def data(self) -> dict[str, AnyValue]:  # type: ignore[override]
        """The dictionary that `UserDict` wraps."""
        return {**self._beside, **self._event.attributes()}

    def copy(self) -> dict[str, AnyValue]:  # type: ignore[override]
        """Return a copy as a plain dictionary."""
        return self.data.copy()
