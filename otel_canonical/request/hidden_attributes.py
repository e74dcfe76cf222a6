"""Which attributes of child spans are replaced, so that a span says no more than the line. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.event.fields import FIELDS
from otel_canonical.event.http_conventions import FORMER_ATTRIBUTES, URL_ATTRIBUTES
from otel_canonical.event.redaction import REDACTED
from otel_canonical.settings import Settings


class HiddenAttributes:
    """The attributes that the operator excludes, and those that hold the URL."""

    def __init__(self, settings: Settings) -> None:
        excluded = settings.excluded_fields
        self._hidden = {
            name: REDACTED
            for field in FIELDS
            if field.attribute and excluded is not None and excluded.match(field.key)
            for name in (field.attribute, *FORMER_ATTRIBUTES.get(field.attribute, ()))
        }

    def replaced(self, event: CanonicalEvent) -> Mapping[str, str]:
        """Return the replacements for the spans of one request."""
        path = str(event.attributes().get("url.path", REDACTED))
        return {
            **dict.fromkeys(URL_ATTRIBUTES, path),
            "url.query": REDACTED,
            **self._hidden,
        }
