"""An event in a few words."""

from __future__ import annotations

import pytest

from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.event.fields import FieldValue
from otel_canonical.event.summary import summary

GET: list[tuple[str, FieldValue]] = [("req_method", "GET"), ("req_path", "/slow/")]


@pytest.mark.parametrize(
    ("event_type", "pairs", "expected"),
    [
        ("request", [*GET, ("resp_status", 200), ("resp_time", 0.0123)], "GET /slow/ 200 0.012s"),
        ("request", [("resp_status", 400), ("resp_time", 0.001)], "request 400 0.001s"),
        (
            "request",
            [
                *GET,
                ("resp_status", 500),
                ("resp_time", 1.0),
                ("exc_type", "NoRate"),
                ("exc_msg", "no rate"),
                ("exc_cause_loc", "catalog/loyalty.py:20:rate_of"),
            ],
            "GET /slow/ 500 1.000s NoRate at catalog/loyalty.py:20:rate_of",
        ),
        (
            "timeout",
            [
                *GET,
                ("resp_status", 500),
                ("resp_time", 4.29),
                ("timeout_cause_loc", "catalog/warehouse.py:12:wait_for_stock"),
            ],
            "GET /slow/ 500 4.290s timeout at catalog/warehouse.py:12:wait_for_stock",
        ),
        ("timeout", [*GET, ("resp_time", 4.29)], "GET /slow/ 4.290s timeout"),
        (
            "lost",
            [*GET, ("resp_time", 3.98938), ("lost_cause", "SIGKILL")],
            "GET /slow/ 3.989s lost: SIGKILL",
        ),
        ("lost", GET, "GET /slow/ lost"),
        (
            "slow",
            [*GET, ("resp_time", 5.0), ("slow_cause_loc", "a.py:1:f")],
            "GET /slow/ 5.000s slow at a.py:1:f",
        ),
        (
            "partial_failure",
            [("exc_type", "URLError"), ("exc_cause_loc", "a.py:1:f")],
            "partial_failure URLError at a.py:1:f",
        ),
        (
            "slow_query",
            [("db_query", "SELECT 1"), ("db_query_time", 1.8), ("db_query_loc", "a.py:1:f")],
            "slow_query 1.800s at a.py:1:f",
        ),
        ("pool", [("g_w_count", 4)], "pool"),
    ],
)
def test_summary_says_what_happened_where(
    event_type: str, pairs: list[tuple[str, FieldValue]], expected: str
) -> None:
    """Method, path, status and time, then what went wrong and where; what is unknown is left out."""
    kind = EventType(event_type)
    event = CanonicalEvent.of_pairs(kind, [("event_type", event_type), *pairs])
    assert summary(kind, event.attributes()) == expected
