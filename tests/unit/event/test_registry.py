"""The registry knows a well-formed event from others, and the schema says the same."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from otel_canonical.event.event import EventType
from otel_canonical.event.fields import FieldValue
from otel_canonical.event.registry import faults, json_schema

Pairs = list[tuple[str, FieldValue]]

GOOD: dict[EventType, Pairs] = {
    EventType.REQUEST: [
        ("ts", "2026-01-01T00:00:00.000Z"),
        ("event_type", "request"),
        ("resp_status", 200),
        ("resp_time", 0.5),
        ("deadline_exceeded", True),
        ("http_calls", 1),
        ("redis_calls", 2),
        ("redis_time", 0.1),
        ("cache_hits", 1),
        ("app_plan", "pro"),
        ("g_w_count", 1),
        ("g_pid", 7),
        ("req_id", "a"),
        ("sampled", True),
    ],
    EventType.LOST: [
        ("ts", "2026-01-01T00:00:00.000Z"),
        ("event_type", "lost"),
        ("lost_cause", "SIGKILL"),
        ("lost_loc", "a.py:1:f"),
    ],
    EventType.POOL: [
        ("ts", "2026-01-01T00:00:00.000Z"),
        ("event_type", "pool"),
        ("g_utilization", 0.5),
        ("g_w_started", 2),
        ("g_w_died_oom", 1),
        ("g_lines_request", 7),
    ],
}


@pytest.mark.parametrize("event_type", list(GOOD))
def test_well_formed_event_has_no_fault(event_type: EventType) -> None:
    """As values, as the texts of a line, and by the schema."""
    pairs = GOOD[event_type]
    assert list(faults(event_type, pairs)) == []
    texts: Pairs = [
        (key, str(value).lower() if isinstance(value, bool) else str(value)) for key, value in pairs
    ]
    assert list(faults(event_type, texts)) == []
    jsonschema.validate(dict(pairs), json_schema())


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        ([("event_type", "request"), ("resp_tyme", 1.0)], "resp_tyme: no such key"),
        ([("event_type", "request"), ("resp_time", "soon")], "resp_time='soon': not of type float"),
        ([("event_type", "request"), ("resp_time", -1.0)], "resp_time=-1.0: no duration"),
        ([("event_type", "request"), ("db_queries", True)], "db_queries=True: not of type int"),
        ([("event_type", "request"), ("lost_cause", "oom")], "lost_cause: not on a `request`"),
        ([("event_type", "request"), ("req_id", "a"), ("g_pid", 1)], "g_pid: behind req_id"),
        (
            [("event_type", "request"), ("app_a", 1), ("redis_calls", 1)],
            "redis_calls: behind app_a",
        ),
        ([("event_type", "request"), ("app_a", 1), ("app_a", 2)], "app_a: twice"),
        (
            [("event_type", "request"), ("ts", "now")],
            "the first keys are not ts and event_type",
        ),
    ],
)
def test_fault_is_named(pairs: Pairs, fault: str) -> None:
    """What is wrong, and with which key."""
    assert fault in list(faults(EventType.REQUEST, pairs))


@pytest.mark.parametrize(
    "wrong", [{"resp_tyme": 1}, {"resp_status": "200"}, {"lost_cause": "oom"}, {"resp_time": -1}]
)
def test_schema_refuses_what_the_registry_refuses(wrong: dict[str, object]) -> None:
    """For who reads the lines as JSON."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**dict(GOOD[EventType.REQUEST]), **wrong}, json_schema())


def test_schema_in_the_documentation_is_the_codes() -> None:
    """It is generated."""
    written = Path(__file__).parents[3] / "docs" / "event.schema.json"
    assert json.loads(written.read_text()) == json_schema()
