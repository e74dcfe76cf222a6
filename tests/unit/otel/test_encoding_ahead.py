"""Records that wait for their batch as bytes: when they do, and that their batch says the same."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

import pytest
import wrapt
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.otel import encoded_ahead, otlp_encoder
from otel_canonical.otel.otlp_encoder import LOG_RECORDS, SPANS, BatchEncoder, encoding_ahead
from otel_canonical.otel.redacted_spans import RedactedSpans


def spans_of(*scopes: str, **attributes: Any) -> tuple[ReadableSpan, ...]:
    """Return an ended span of each scope, all of one resource."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for scope in scopes:
        provider.get_tracer(scope).start_span("GET", attributes=attributes).end()
    return exporter.get_finished_spans()


def records_of(count: int) -> Any:
    """Return log records of one scope."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    for number in range(count):
        provider.get_logger("test").emit(LogRecord(body=f"number {number}"))
    return exporter.get_finished_logs()


@pytest.mark.parametrize(
    ("kind", "upstream", "records"),
    [
        pytest.param(SPANS, encode_spans, spans_of("a", "a"), id="spans"),
        pytest.param(LOG_RECORDS, encode_logs, records_of(2), id="logs"),
    ],
)
def test_record_is_bytes_once_its_scope_is_known(
    kind: Any, upstream: Callable[..., Any], records: Any
) -> None:
    """The first of a scope is held against OpenTelemetry's encoding, so it has to wait as it is."""
    first, second = records
    encode = BatchEncoder(kind, upstream)
    assert encode.ahead(first) is first
    assert encode([first]) == upstream([first])
    waiting = encode.ahead(second)
    assert type(waiting) is bytes
    assert not gc.is_tracked(waiting)
    assert encode([waiting]) == upstream([second])
    # By the encoder of another exporter, too: all exporters get what is encoded once.
    assert BatchEncoder(kind, upstream)([waiting]) == upstream([second])


def test_batch_holds_both_and_scopes_are_told_apart() -> None:
    """In one message, with what OpenTelemetry encodes."""
    spans = spans_of("a", "b", "a", "b")
    encode = BatchEncoder(SPANS, encode_spans)
    encode(spans[:2])
    batch = [encode.ahead(spans[0]), encode.ahead(spans[1]), spans[2], encode.ahead(spans[3])]
    assert [type(one) is bytes for one in batch] == [True, True, False, True]
    [scopes] = [of_resource.scope_spans for of_resource in _merged(encode(batch)).values()]
    assert {name: len(found) for name, found in scopes.items()} == {"a": 2, "b": 2}
    ids = {one.span_id for found in scopes.values() for one in found}
    assert ids == {span.context.span_id.to_bytes(8, "big") for span in spans if span.context}


class _Resource:
    def __init__(self) -> None:
        self.scope_spans: dict[str, list[Any]] = {}


def _merged(request: Any) -> dict[str, _Resource]:
    """Return the spans of a request by resource and scope."""
    found: dict[str, _Resource] = {}
    for of_resource in request.resource_spans:
        resource = found.setdefault(str(of_resource.resource), _Resource())
        for of_scope in of_resource.scope_spans:
            resource.scope_spans.setdefault(of_scope.scope.name, []).extend(of_scope.spans)
    return found


def test_record_stays_as_it_is_where_opentelemetry_encodes_its_scope(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That version writes a field that we don't know."""

    def upstream(spans: Any) -> Any:
        request = encode_spans(spans)
        for of_resource in request.resource_spans:
            for span in of_resource.scope_spans[0].spans:
                span.dropped_links_count = 7
        return request

    monkeypatch.setattr(otlp_encoder, "warn", lambda text: None)
    first, second = spans_of("a", "a")
    encode = BatchEncoder(SPANS, upstream)
    encode([first])
    assert encode.ahead(second) is second


def test_record_that_cannot_be_encoded_waits_as_it_is() -> None:
    """Its batch repairs or reports it."""
    encode = BatchEncoder(SPANS, encode_spans)
    encode(spans_of("a"))
    first, *_ = spans_of("a")
    encode([first])
    [broken] = spans_of("a", name="\ud800")
    encode([broken, first])
    assert encode.ahead(broken) is broken


def test_scopes_that_never_come_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is around a record is kept for as many as a byte can name; others wait as they are."""
    monkeypatch.setattr(encoded_ahead, "MOST_NUMBERS", len(encoded_ahead._parts) + 1)
    spans = spans_of("early", "late")
    encode = BatchEncoder(SPANS, encode_spans)
    encode(spans)
    waiting = [encode.ahead(span) for span in spans]
    assert [type(one) is bytes for one in waiting] == [True, False]
    [scopes] = [of_resource.scope_spans for of_resource in _merged(encode(waiting)).values()]
    assert {name: len(found) for name, found in scopes.items()} == {"early": 1, "late": 1}


class _Sees(OTLPSpanExporter):
    """An exporter of the user's, which looks at what it exports."""


def _seeing(export: Callable[..., Any], spans: Any) -> Any:
    return export([span for span in spans if span.name != "GET /health/"])


def _around(export: Callable[..., Any]) -> Callable[..., Any]:
    def export_what_it_likes(self: Any, spans: Any) -> Any:
        return export(self, [span for span in spans if span.name != "GET /health/"])

    return export_what_it_likes


def _exporter(kind: type[OTLPSpanExporter] = OTLPSpanExporter) -> OTLPSpanExporter:
    return kind(endpoint="http://127.0.0.1:9/v1/traces")


def test_only_exporters_with_our_encoder_get_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other needs spans, and so do all that share its queue's spans; and where there is no queue."""
    encode = BatchEncoder(SPANS, encode_spans)
    batch = BatchSpanProcessor(_exporter())
    RedactedSpans(RedactionPolicy()).watch(batch)  # ours around it changes nothing
    filtered = _exporter()
    monkeypatch.setattr(filtered, "export", functools.partial(_seeing, filtered.export))
    others = [
        BatchSpanProcessor(_exporter(_Sees)),
        BatchSpanProcessor(ConsoleSpanExporter()),
        BatchSpanProcessor(filtered),
        SimpleSpanProcessor(_exporter()),
    ]
    try:
        assert encoding_ahead(SPANS, [batch]) is None
        monkeypatch.setattr(trace_exporter, "encode_spans", encode)
        assert encoding_ahead(SPANS, [batch]) == encode.ahead
        assert encoding_ahead(SPANS, [batch, batch]) == encode.ahead
        assert encoding_ahead(SPANS, []) is None
        for other in others:
            assert encoding_ahead(SPANS, [other]) is None
            assert encoding_ahead(SPANS, [batch, other]) is None
        # Around the method of all exporters, as users do it by hand, and as wrapt does.
        export = OTLPSpanExporter.export
        around: list[Any] = [_around(export), functools.wraps(export)(_around(export))]
        around.append(
            wrapt.FunctionWrapper(export, lambda wrapped, _, args, kwargs: wrapped(*args))
        )
        for replacement in around:
            with monkeypatch.context() as patched:
                patched.setattr(OTLPSpanExporter, "export", replacement)
                late = BatchSpanProcessor(_exporter())
                others.append(late)
                assert encoding_ahead(SPANS, [late]) is None
    finally:
        for processor in (batch, *others):
            processor.shutdown()
