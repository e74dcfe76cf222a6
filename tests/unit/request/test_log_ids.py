"""Log records carry the ids of their request, and are counted on its line if they say that something is wrong."""

from __future__ import annotations

import logging
from contextvars import copy_context
from itertools import combinations
from types import SimpleNamespace
from typing import Any, cast

import pytest

from otel_canonical.request import log_ids
from otel_canonical.request.log_ids import RequestIds, stamp
from otel_canonical.request.root import Root
from otel_canonical.request.scope import RequestScope, current_scope

NONE = ("-", "-", "-")


def a_record(name: str = "shop", level: int = logging.INFO, **extra: str) -> logging.LogRecord:
    """Return a record, with what the app has set itself."""
    record = logging.LogRecord(name, level, "a.py", 1, "text", (), None)
    record.__dict__.update(extra)
    return record


def ids_of(record: logging.LogRecord) -> tuple[str, str, str]:
    """Return the ids on a record."""
    found = record.__dict__
    return found["req_id"], found["trace_id"], found["span_id"]


def a_request(*, is_named: bool = True, **facts: Any) -> RequestScope:
    """Return a request whose root has ids, that name something or don't."""
    scope = RequestScope("GET", "/", {})
    scope.request_id = "r1"
    scope.root = cast("Root", SimpleNamespace(is_named=is_named, trace_id="t1", span_id="s1"))
    for name, value in facts.items():
        setattr(scope, name, value)
    return scope


def within(scope: RequestScope | None, do: Any, *arguments: Any) -> None:
    """Call a function as code of a request."""
    context = copy_context()
    context.run(current_scope.set, scope)
    context.run(do, *arguments)


@pytest.mark.parametrize(
    ("scope", "ids"),
    [
        (None, NONE),
        (a_request(), ("r1", "t1", "s1")),
        (a_request(is_named=False), ("r1", "-", "-")),
        (a_request(is_open=False), NONE),
        (a_request(is_open=False, is_left_later=True), ("r1", "t1", "s1")),
    ],
)
def test_record_has_the_ids_of_its_requests_line(
    scope: RequestScope | None, ids: tuple[str, str, str]
) -> None:
    """Also behind the last byte, where background tasks run; outside a request there are none."""
    record = a_record()
    within(scope, stamp, record)
    assert ids_of(record) == ids


IDS = {"req_id": "r1", "trace_id": "t1", "span_id": "s1"}


@pytest.mark.parametrize("own", [own for count in range(4) for own in combinations(IDS, count)])
def test_ids_that_the_app_has_set_stay(own: tuple[str, ...]) -> None:
    """Each by itself, and any of them together; the others are set."""
    record = a_record(**dict.fromkeys(own, "the app's"))
    within(a_request(), stamp, record)
    ids = {**IDS, **dict.fromkeys(own, "the app's")}
    assert ids_of(record) == tuple(ids.values())


def test_filter_sets_what_is_missing_and_lets_pass() -> None:
    """For a format in `manage.py`."""
    record = a_record()
    assert RequestIds().filter(record) is True
    assert ids_of(record) == NONE


@pytest.mark.parametrize(
    ("name", "level", "counted"),
    [
        ("shop", logging.INFO, (0, 0)),
        ("shop", logging.WARNING, (1, 0)),
        ("shop", logging.ERROR - 1, (1, 0)),
        ("shop", logging.ERROR, (0, 1)),
        ("shop", logging.CRITICAL, (0, 1)),
        ("gunicorn.error", logging.ERROR, (0, 0)),
        ("otel_canonical.x", logging.ERROR, (0, 0)),
        ("opentelemetry", logging.WARNING, (0, 0)),
        ("django.request", logging.ERROR, (0, 0)),
        ("django.request.shop", logging.ERROR, (0, 1)),
        ("django.db", logging.WARNING, (1, 0)),
    ],
)
def test_complaints_of_the_app_are_counted(name: str, level: int, counted: tuple[int, int]) -> None:
    """Neither ours nor the server's, nor Django's remark that the status is what it is."""
    seen: list[logging.LogRecord] = []
    handle = log_ids._stamping(lambda logger, record: seen.append(record))
    scope = a_request()
    record = a_record(name, level)
    within(scope, handle, logging.getLogger(name), record)
    assert (scope.log_warnings, scope.log_errors) == counted
    assert seen == [record]
    assert ids_of(record) == ("r1", "t1", "s1")
    within(None, handle, logging.getLogger(name), a_record(name, level))
    assert (scope.log_warnings, scope.log_errors) == counted
