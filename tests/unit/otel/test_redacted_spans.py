"""Spans of libraries and of the app leave without secrets; those without any leave as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode

from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.otel.redacted_spans import RedactedSpans


class Exported:
    """A provider whose exporter is given redacted spans."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        processor = SimpleSpanProcessor(self._exporter)
        RedactedSpans(RedactionPolicy()).watch(processor)
        self.provider.add_span_processor(processor)

    def made(
        self,
        do: Callable[[Span], object] = bool,
        kind: SpanKind = SpanKind.CLIENT,
        **attributes: Any,
    ) -> ReadableSpan:
        """Make a span, do something with it, end it; return what was exported."""
        named = {name.replace("_", "."): value for name, value in attributes.items()}
        span = self.provider.get_tracer("test").start_span("work", kind=kind, attributes=named)
        do(span)
        span.end()
        [exported] = self._exporter.get_finished_spans()
        self._exporter.clear()
        return exported


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("url_full", "https://h/a?token=x&q=1", "https://h/a?token=[redacted]&q=1"),
        ("http_url", "https://u:pw@h/a?code=x", "https://u:[redacted]@h/a?code=[redacted]"),
        ("http_target", "/a?api_key=x", "/a?api_key=[redacted]"),
        ("url_query", "ticket=x&q=1", "ticket=[redacted]&q=1"),
        (
            "db_query_text",
            "SELECT 1 FROM t WHERE mail = 'a''b@c' AND n = 7 AND x = %s AND id = $1",
            "SELECT ? FROM t WHERE mail = ? AND n = ? AND x = %s AND id = $1",
        ),
        (
            "db_statement",
            'INSERT INTO "t2" VALUES ("a@b", $$x$$)',
            'INSERT INTO "t2" VALUES (?, ?)',
        ),
        ("http.request.header.authorization", ("Basic abc",), "[redacted]"),
        ("app_token", "abc", "[redacted]"),
    ],
)
def test_attribute_is_redacted(name: str, value: Any, shown: str) -> None:
    """URLs by their parameters, statements by their literals, all by their names."""
    span = Exported().made(**{name: value, "server_address": "h"})
    name = name.replace("_", ".")
    assert dict(span.attributes or {}) == {name: shown, "server.address": "h"}


def test_exception_is_redacted_in_event_and_status() -> None:
    """Message, stack, inner exceptions; and what the SDK makes of it as the span's status."""

    def fail(span: Span) -> None:
        try:
            try:
                raise KeyError("password=hunter2")
            except KeyError as error:
                raise ValueError("api_key=hunter2 is wrong") from error
        except ValueError as error:
            span.record_exception(error)
            span.set_status(StatusCode.ERROR, f"ValueError: {error}")

    span = Exported().made(fail, SpanKind.INTERNAL)
    [event] = span.events
    facts = dict(event.attributes or {})
    assert facts["exception.message"] == "api_key=[redacted] is wrong"
    assert "KeyError: 'password=[redacted]" in str(facts["exception.stacktrace"])
    assert span.status.description == "ValueError: api_key=[redacted] is wrong"
    # The line of source that raises it stands in the stack, too.
    assert "hunter2" not in span.to_json()


def test_span_without_secrets_is_exported_itself() -> None:
    """No copy is made of most spans, nor of roots, which were redacted when they ended."""
    exported = Exported()
    spans: list[ReadableSpan] = []
    policy = RedactedSpans(RedactionPolicy())
    for kind, url in ((SpanKind.CLIENT, "https://h/a"), (SpanKind.SERVER, "https://h/a?token=x")):
        spans.append(exported.made(kind=kind, url_full=url))
    assert all(policy.redacted(span) is span for span in spans)
