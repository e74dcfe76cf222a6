"""Removes secrets from the spans of libraries and of the app before they are exported.

Lives in the worker, in the exporters' threads. Root spans have been redacted when they ended. Others hold
what an instrumentation or the app has put there: the URL of an outgoing call, an SQL statement, the
message and stack of an exception. A span can't be changed once it has ended, so that a redacted copy is
exported; one without secrets is exported as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, Status

from otel_canonical.event.redaction import REDACTED, RedactionPolicy
from otel_canonical.internal_errors import report_caught
from otel_canonical.otel.exporter_internals import exporter_of
from otel_canonical.otel.prepared_spans import PreparedSpan
from otel_canonical.otel.repairs import copy_of
from otel_canonical.patching import patch

#: Attributes that hold a URL, a query string or an SQL statement, in both generations of names.
_URLS = ("url.full", "http.url", "http.target", "url.path")
_QUERIES = ("url.query",)
_STATEMENTS = ("db.query.text", "db.statement")

Export = Callable[..., Any]


class RedactedSpans:
    """Redacts what exporters of spans are given.

    Args:
        redaction: the policy.
    """

    def __init__(self, redaction: RedactionPolicy) -> None:
        self._redaction = redaction

    def watch(self, processor: SpanProcessor) -> None:
        """Redact what the exporter behind a span processor is given, if there is one. Idempotent."""
        exporter = exporter_of(processor)
        if exporter is not None:
            patch(exporter, "export", self._redacting)

    def _redacting(self, export: Export) -> Export:
        def export_redacted(
            spans: Sequence[ReadableSpan | bytes], *args: Any, **kwargs: Any
        ) -> Any:
            # Ours are encoded already; they hold no secrets.
            shown = [span if isinstance(span, bytes) else self.redacted(span) for span in spans]
            return export(shown, *args, **kwargs)

        return export_redacted

    def redacted(self, span: ReadableSpan) -> ReadableSpan:
        """Return a span without secrets: itself if it has none, or if it can't be read as a span."""
        if type(span) is PreparedSpan or span.kind is SpanKind.SERVER:
            return span
        try:
            changes = self._changes(span)
        except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
            report_caught("redacting a span", error)
            # Without all that may be secret, rather than with it.
            changes = {"attributes": {}, "events": (), "status": Status(span.status.status_code)}
        return copy_of(span, **changes) if changes else span

    def attributes(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return attributes without secrets."""
        return self._attributes(attributes) or attributes

    def _changes(self, span: ReadableSpan) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        attributes = self._attributes(span.attributes)
        if attributes is not None:
            changes["attributes"] = attributes
        if span.events:
            events = [(event, self._event(event.attributes)) for event in span.events]
            if any(found is not None for _, found in events):
                changes["events"] = [
                    event if found is None else Event(event.name, found, event.timestamp)
                    for event, found in events
                ]
        said = span.status.description
        if said and (shown := self._redaction.text(said)) != said:
            changes["status"] = Status(span.status.status_code, shown)
        return changes

    def _attributes(self, attributes: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return redacted attributes, None if there is nothing to redact."""
        redaction = self._redaction
        changed: dict[str, Any] = {}
        for name, value in (attributes or {}).items():
            if redaction.is_secret(name):
                changed[name] = REDACTED
            elif type(value) is str:
                if name in _URLS:
                    shown = redaction.url(value)
                elif name in _QUERIES:
                    shown = redaction.query(value)
                elif name in _STATEMENTS:
                    shown = redaction.sql(value)
                else:
                    continue
                if shown != value:
                    changed[name] = shown
        return {**(attributes or {}), **changed} if changed else None

    def _event(self, attributes: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return the redacted attributes of an event, None if there is nothing to redact."""
        changed = {
            name: shown
            for name, value in (attributes or {}).items()
            if (shown := self._shown(name, value)) is not value and shown != value
        }
        return {**(attributes or {}), **changed} if changed else None

    def _shown(self, name: str, value: Any) -> Any:
        if type(value) is str and name == "exception.stacktrace":
            # Line by line: each is cut by itself, and no secret is divided.
            return "".join([self._redaction.text(line) for line in value.splitlines(True)])
        return self._redaction.value(name, value)
