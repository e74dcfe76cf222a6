"""The exact answers to the six questions of integrations/, and what is held against them."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pytest

from otel_canonical.event import fields, logfmt
from tests.support.stores import Row

#: What names a row of an answer; the other columns are numbers.
NAMES = (
    *("req_route", "db_n1_loc", "event_type"),
    *("exc_type", "exc_cause_loc", "timeout_cause_loc", "lost_cause"),
)
ENDINGS = ("request", "timeout", "lost")
Answer = dict[tuple[str, ...], dict[str, float]]


def event_of(line: str) -> Row:
    """Return a line's facts with the types of its fields."""
    types = {field.key: field.type for field in fields.FIELDS}
    found: Row = {}
    for key, text in logfmt.parse(line.rstrip("\n")).items():
        kind = types.get(key) or ("float" if key.endswith("_time") else "str")
        if kind == "int":
            found[key] = int(text)
        elif kind == "float":
            found[key] = float(text)
        else:
            found[key] = text == "true" if kind == "bool" else text
    return found


def quantile(values: list[float]) -> tuple[float, float]:
    """Return the least and the largest value that may be called the 95th percentile."""
    ordered = sorted(values)
    rank = math.ceil(0.95 * len(ordered)) - 1
    return ordered[max(rank - 1, 0)], ordered[min(rank + 1, len(ordered) - 1)]


def expected(question: str, events: list[Row]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the exact answer; a pair is the bounds of a percentile."""
    requests = [event for event in events if event["event_type"] == "request"]
    by_route: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for event in requests:
        if "req_route" in event:
            by_route[(event["req_route"],)].append(event)
    if question == "slowest_routes":
        return {
            route: {"p95": quantile([e["resp_time"] for e in rows]), "requests": len(rows)}
            for route, rows in by_route.items()
        }
    if question == "database_share":
        found = {}
        for route, rows in by_route.items():
            seconds = sum(e["resp_time"] for e in rows)
            share = sum(e.get("db_time", 0) for e in rows) / seconds
            found[route] = {"share": share, "seconds": seconds}
        return found
    if question == "worst_n1":
        return grouped(events, ("db_n1_loc",), "db_n1_loc", {"seconds": "db_n1_time"})
    if question == "errors_by_cause":
        failed = [
            event
            for event in events
            if event["event_type"] in ("timeout", "lost")
            or (event["event_type"] == "request" and event.get("resp_status", 0) >= 500)
        ]
        return grouped(failed, NAMES[2:], "event_type", {})
    if question == "queue_time":
        waits = [event["req_queue_time"] for event in events if "req_queue_time" in event]
        whole = {"p95": quantile(waits), "longest": max(waits), "requests": len(waits)}
        return {(): whole}
    endings = [
        event
        for event in events
        if event["event_type"] in ENDINGS and event.get("g_t_count", 0) > 0
    ]
    busy = sum(event["g_t_active"] / event["g_t_count"] for event in endings) / len(endings)
    return {(): {"busy": busy, "backlog": max(event.get("g_backlog", 0) for event in endings)}}


def grouped(
    events: list[Row], names: tuple[str, ...], needed: str, sums: dict[str, str]
) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return sums and counts of the events with a key, by the values of some keys."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for event in events:
        if needed in event:
            row = found.setdefault(
                tuple(event.get(name, "") for name in names),
                {**dict.fromkeys(sums, 0.0), "requests": 0},
            )
            row["requests"] += 1
            for name, key in sums.items():
                row[name] += event[key]
    return found


def shaped(rows: list[Row]) -> Answer:
    """Return an answer as numbers by names; absent names are empty texts."""
    found: Answer = {}
    for row in rows:
        names = tuple(str(row.get(name) or "") for name in NAMES if name in row)
        found[names] = {
            name: float(value) for name, value in row.items() if name not in NAMES and value != ""
        }
    return found


def agree(question: str, rows: list[Row], events: list[Row]) -> None:
    """Hold an answer against the exact one."""
    wanted = expected(question, events)
    given = shaped(rows)
    if question == "errors_by_cause":  # a store without a column for absent names leaves it out
        width = len(NAMES[2:])
        given = {
            tuple(str(row.get(name) or "") for name in NAMES[2:]): {
                "requests": float(row["requests"])
            }
            for row in rows
        }
        assert all(len(names) == width for names in given)
    assert set(given) == set(wanted)
    for names, numbers in wanted.items():
        for name, number in numbers.items():
            if isinstance(number, tuple):
                low, high = number
                assert low - 1e-9 <= given[names][name] <= high + 1e-9, (names, name)
            else:
                assert given[names][name] == pytest.approx(number, rel=1e-6), (names, name)
