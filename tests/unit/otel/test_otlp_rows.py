"""An event that is encoded row by row says what its attributes say."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.trace import INVALID_SPAN

from otel_canonical.event import rows
from otel_canonical.event.bounds import limits
from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.event.rows import DETAILS, LOOSE, FilledRow, PlainRow, TextRow
from otel_canonical.event.summary import summary
from otel_canonical.otel import otlp_wire
from otel_canonical.otel.log_events import LogEvents
from otel_canonical.otel.otlp_encoder import LOG_RECORDS, BatchEncoder
from otel_canonical.request.database_facts import NAMED_QUERIES
from otel_canonical.request.query_tally import RepeatedQuery

#: A value of each type, in several sizes; durations are nanoseconds.
VALUES: dict[str, list[Any]] = {
    "str": ["GET", "", "/caf\u00e9/", "x" * 126, "x" * 300, "x" * 20_000],
    "int": [0, 5, 127, 128, 1023, 1024, 70_000, 2**40],
    "float": [0, 499, 500, 1_234_567, 999_999_500, 3_600_000_000_000],
    "bool": ["true", "false"],
}
ROWS = {name: row for name, row in vars(rows).items() if isinstance(row, PlainRow | TextRow)}


def types_of(row: PlainRow | TextRow) -> list[str]:
    """Return the types of a row's values."""
    if isinstance(row, TextRow):
        return ["str"] * len(row.attribute_names)
    return [type_ for _, type_ in row.columns]


def parsed(event: CanonicalEvent, message: Any) -> dict[str, Any]:
    """Return a record's attributes as OpenTelemetry's own classes read our bytes."""
    found = {}
    for pair in message.attributes:
        value = getattr(pair.value, str(pair.value.WhichOneof("value")))
        if hasattr(value, "values"):
            value = tuple(getattr(one, str(one.WhichOneof("value"))) for one in value.values)
        assert pair.key not in found
        found[pair.key] = value
    return found


def check(made: list[FilledRow], stack: str = "") -> dict[str, Any]:
    """Emit and encode an event; compare it with its attributes and with OpenTelemetry's encoding."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    event, again = (CanonicalEvent(EventType.REQUEST, made, stack, 7) for _ in range(2))
    LogEvents(provider.get_logger("test")).emit(event, INVALID_SPAN)
    provider.force_flush()
    provider.shutdown()
    [readable] = exporter.get_finished_logs()
    assert not event.has_attributes()
    message = encode_logs([]).resource_logs.add().scope_logs.add().log_records.add()
    message.ParseFromString(otlp_wire.log_record(readable))
    found = parsed(event, message)
    # In the same order, too: a worker's first record is compared with OpenTelemetry's encoding.
    assert list(found.items()) == list(again.attributes().items())
    assert message.body.string_value == summary(EventType.REQUEST, again.attributes())
    encode = BatchEncoder(LOG_RECORDS, encode_logs)
    assert encode_logs([readable]) == encode([readable])
    assert all(envelope.parts for envelope in encode._envelopes.values())
    # Once more, when somebody has read them.
    assert event.attributes() == again.attributes()
    message.ParseFromString(otlp_wire.log_record(readable))
    assert parsed(event, message) == again.attributes()
    return found


@pytest.mark.parametrize("name", sorted(ROWS))
def test_each_row_says_what_its_attributes_say(name: str) -> None:
    """With every value, and where all of a row's that may be absent are."""
    row = ROWS[name]
    for number in range(max(len(values) for values in VALUES.values())):
        values = [
            VALUES.get(type_, VALUES["str"])[number % len(VALUES.get(type_, VALUES["str"]))]
            for type_ in types_of(row)
        ]
        check([(row, values)])
        if isinstance(row, TextRow):
            check([(row, [7, *values[1:-1], 0.25])])
            check([(row, [None] * len(values))])


def test_whole_event_says_what_its_attributes_say() -> None:
    """Rows, pairs of the app's, details, named queries, and a stack."""
    head = (rows.HEAD, ("", "request", "GET", "/ok/", 200, 5_000_000))
    queries = (
        NAMED_QUERIES,
        ([RepeatedQuery("SELECT 1", 7, 5_000_000, "a.py:1:f")], "SELECT 2", 9, None),
    )
    details = (DETAILS, [("db_query", "SELECT ...", "SELECT a FROM b"), ("db_plan", None, "Seq")])
    loose = [("app_plan", "pro"), ("app_items", 3), ("app_ratio", 0.5), ("app_new", True)]
    failed = [("exc_type", "ValueError"), ("exc_cause_loc", "a.py:1:f"), ("client_gone", True)]
    made: list[FilledRow] = [head, queries, details, (LOOSE, loose), (LOOSE, failed)]
    assert check(made, "Traceback")["code.stacktrace"] == "Traceback"


@pytest.mark.parametrize("size", [10, 60, 70, 4000])
def test_event_that_is_too_large_is_shortened(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its attributes are, also where it is a hair too large."""
    monkeypatch.setattr(limits, "event", 200)
    for more in range(60):
        path = "/" + "x" * (size + more)
        check(
            [(rows.HEAD, ("", "request", "GET", path, 200, 5)), (LOOSE, [("app_a", "\u00e9" * 9)])]
        )


def test_exporter_over_http_gets_bytes() -> None:
    """The message that others get; and all else of that message, if it asks."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    for name in ("a", "b", "a"):
        provider.get_logger(name).emit(body=name, attributes={"x": {"nested": 1}, "y": b"\0"})
        provider.get_logger(name).emit(body=name, attributes={"x": 1})
    batch = exporter.get_finished_logs()
    message = BatchEncoder(LOG_RECORDS, encode_logs)(batch)
    encoded = BatchEncoder(LOG_RECORDS, encode_logs, is_http=True)(batch)
    assert type(message) is type(encode_logs([]))
    assert encoded.decoded() == message
    assert type(message).FromString(encoded.SerializeToString()) == message
    assert encoded.ByteSize() == message.ByteSize()
    assert len(encoded.resource_logs) == len(message.resource_logs)
