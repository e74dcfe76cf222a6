"""The log event as processors, exporters and other loggers see it."""

from __future__ import annotations

import copy
import json
import weakref
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord
from opentelemetry.context import Context
from opentelemetry.sdk._logs import Logger as SdkLogger
from opentelemetry.sdk._logs import (
    LoggerProvider,
    LogRecordLimits,
    LogRecordProcessor,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor as BatchProcessorOfSdk
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.otel import log_events
from otel_canonical.otel.log_events import LogEvents

IDS = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
ROOT = NonRecordingSpan(IDS)


def an_event(stack: Any = "") -> CanonicalEvent:
    """A request that has failed."""
    facts = [
        ("event_type", "request"),
        ("req_id", "abc"),
        ("resp_status", 503),
        ("app_cart", "full"),
    ]
    return CanonicalEvent.of_pairs(EventType.REQUEST, facts, stack)


class Events:
    """Emits, and keeps what is exported."""

    def __init__(self, *processors: LogRecordProcessor, limits: LogRecordLimits | None = None):
        self._exporter = InMemoryLogRecordExporter()
        self.provider = LoggerProvider(shutdown_on_exit=False, log_record_limits=limits)
        for processor in processors:
            self.provider.add_log_record_processor(processor)
        self.provider.add_log_record_processor(BatchLogRecordProcessor(self._exporter))
        self.out = LogEvents(self.provider.get_logger("otel_canonical"))

    def exported(self) -> list[ReadableLogRecord]:
        self.provider.force_flush()
        return list(self._exporter.get_finished_logs())


def test_record_is_complete() -> None:
    """Ids, name, severity, attributes; nothing dropped."""
    events = Events()
    events.out.emit(an_event(), ROOT, 503)
    [readable] = events.exported()
    record = readable.log_record
    assert (record.trace_id, record.span_id, record.trace_flags) == (0xABC, 0xDEF, 1)
    assert (record.event_name, record.body) == ("canonical.request", "request 503")
    assert (record.severity_text, readable.dropped_attributes) == ("ERROR", 0)
    assert dict(record.attributes or {}) == an_event().attributes()
    assert readable.resource is events.provider.resource


def test_attributes_are_made_only_when_they_are_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that has served the request doesn't wait for them."""
    made = []
    attributes = CanonicalEvent.attributes
    monkeypatch.setattr(
        CanonicalEvent, "attributes", lambda self: made.append(self) or attributes(self)
    )
    events = Events()
    events.out.emit(an_event(), ROOT, 200)
    assert not made
    assert dict(events.exported()[0].log_record.attributes or {})
    assert made


def test_body_is_made_when_it_is_first_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the thread that has served the request, and once; who sets another gets that."""
    made = []
    monkeypatch.setattr(
        log_events, "summary", lambda *given: made.append(given) or f"body {len(made)}"
    )
    events = Events()
    events.out.emit(an_event(), ROOT, 200)
    assert not made
    record = events.exported()[0].log_record
    assert (record.body, record.body, len(made)) == ("body 1", "body 1", 1)
    record.body = "another"
    assert record.body == "another"


def test_stacks_are_made_at_once() -> None:
    """Nothing that is queued holds an exception, its frames and all that these refer to."""

    class Stacks:
        def __call__(self) -> dict[str, str]:
            return {"exception.stacktrace": "here"}

    stacks = Stacks()
    held = weakref.ref(stacks)
    events = Events()
    events.out.emit(an_event(stacks), ROOT, 503)
    del stacks
    assert held() is None
    assert (events.exported()[0].log_record.attributes or {})["exception.stacktrace"] == "here"


@pytest.mark.parametrize(
    ("limits", "kept", "dropped"),
    [
        (LogRecordLimits(max_log_record_attributes=2), {"type": "request", "id": "abc"}, 2),
        (LogRecordLimits(max_log_record_attributes=0), {}, 4),
        (LogRecordLimits(max_log_record_attribute_length=2), {"id": "ab"}, 0),
        (LogRecordLimits(max_log_record_attributes=1000), {"id": "abc"}, 0),
    ],
)
def test_limits_are_obeyed(limits: LogRecordLimits, kept: dict[str, Any], dropped: int) -> None:
    """What OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT and its kin say."""
    events = Events(limits=limits)
    events.out.emit(an_event(), ROOT, 503)
    [readable] = events.exported()
    found = readable.log_record.attributes or {}
    names = {"type": "canonical.event_type", "id": "http.request.id"}
    assert {name: found[names[name]] for name in kept} == kept
    assert readable.dropped_attributes == dropped


def test_processor_of_the_user_sees_and_changes_the_record() -> None:
    """It comes before the exporter's; so does what it adds."""
    seen: list[Any] = []

    class Adds(LogRecordProcessor):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            record = log_record.log_record
            seen.append(trace.get_current_span(record.context).get_span_context())
            attributes: Any = record.attributes
            attributes["deployment"] = "blue"
            del attributes["app.cart"]

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return True

    event = an_event()
    events = Events(Adds())
    events.out.emit(event, ROOT, 503)
    found = dict(events.exported()[0].log_record.attributes or {})
    assert seen == [IDS]
    assert found.pop("deployment") == "blue"
    assert {**found, "app.cart": "full"} == event.attributes()


def test_processor_that_is_added_later_sees_the_next_record() -> None:
    """Until then records go to the exporters' queues; after it the user's processor is asked, too."""
    seen: list[str | None] = []

    class Watches(LogRecordProcessor):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            seen.append(log_record.log_record.event_name)

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return True

    events = Events()
    another = InMemoryLogRecordExporter()
    events.provider.add_log_record_processor(BatchLogRecordProcessor(another))
    events.out.emit(an_event(), ROOT, 503)
    events.provider.add_log_record_processor(Watches())
    events.out.emit(an_event(), ROOT, 503)
    assert seen == ["canonical.request"]
    first, second = events.exported()
    assert len(another.get_finished_logs()) == 2
    for record in (first.log_record, second.log_record):
        assert record.context == {}
    assert shown(first) == shown(second)


def shown(readable: ReadableLogRecord) -> dict[str, object]:
    """Return what a record says, without its time."""
    found: dict[str, object] = json.loads(readable.to_json())
    return {key: value for key, value in found.items() if "timestamp" not in key}


@pytest.mark.parametrize("case", ["subclass", "counts", "disabled"])
def test_records_that_the_sdk_has_to_see_go_to_it(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that is more than the SDK's, metrics of the SDK's own, a logger that is off."""
    got: list[object] = []

    class BatchLogRecordProcessor(BatchProcessorOfSdk):
        def on_emit(self, log_record: ReadWriteLogRecord) -> None:
            got.append(log_record)

    processors: list[LogRecordProcessor] = []
    if case == "subclass":
        processors.append(BatchLogRecordProcessor(InMemoryLogRecordExporter()))
    if case == "counts":
        monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    events = Events(*processors)
    if case == "disabled":
        monkeypatch.setattr(SdkLogger, "enabled", lambda self: False)
    monkeypatch.setattr(SdkLogger, "emit", lambda self, record: got.append(record))
    events.out.emit(an_event(), ROOT, 503)
    assert len(got) == 1


def test_exporter_gets_json_as_of_any_record() -> None:
    """What the console exporter writes."""
    events = Events()
    exporter = InMemoryLogRecordExporter()
    events.provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    events.out.emit(an_event(), ROOT, 503)
    assert '"http.request.id": "abc"' in exporter.get_finished_logs()[0].to_json()
    queued = copy.copy(exporter.get_finished_logs()[0].log_record)
    queued.context = Context()
    assert queued.context == {}


def test_logger_that_is_not_the_sdks_gets_the_record() -> None:
    """Another logger provider was installed."""
    got: list[LogRecord] = []

    class Other(Logger):
        def enabled(self, **_: Any) -> bool:
            return True

        def emit(self, record: Any = None, **_: Any) -> None:
            got.append(record)

    LogEvents(Other("other")).emit(an_event(), ROOT, 503)
    assert dict(got[0].attributes or {}) == an_event().attributes()
    assert trace.get_current_span(got[0].context).get_span_context() == IDS


def test_record_is_of_the_moment_that_the_line_shows() -> None:
    """One clock, read once."""
    events = Events()
    facts = [("event_type", "request"), ("ts", "2026-01-01T00:00:00.000Z")]
    moment_ns = 1_767_225_600_000_000_000
    events.out.emit(CanonicalEvent.of_pairs(EventType.REQUEST, facts, "", moment_ns), ROOT, 200)
    assert events.exported()[0].log_record.timestamp == moment_ns
