"""Queries of a view are counted once each."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.http import HttpResponse

from tests.support.in_process import event_of


def test_query_is_failed_when_it_raises_in_the_view(in_process: None) -> None:
    """A query that ends the request is counted with its error."""

    def view(request: Any) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    event = event_of(view)
    assert (event["db_queries"], event["db_errors"], event["resp_status"]) == (1, 1, 500)
    assert event["exc_type"] == "OperationalError"


def test_duplicates_are_all_runs_of_a_text(in_process: None) -> None:
    """The first run of a repeated text counts as well; parameters make no other text."""

    def view(request: Any) -> HttpResponse:
        with connections["default"].cursor() as cursor:
            for n in range(10):
                cursor.execute("SELECT %s", [n])
            cursor.execute("SELECT 1, 2")
        return HttpResponse()

    event = event_of(view)
    assert (event["db_queries"], event["db_dup_queries"]) == (11, 10)


@pytest.mark.parametrize(
    "fetch",
    [
        lambda cursor: [cursor.fetchone(), cursor.fetchone()],
        lambda cursor: cursor.fetchmany(2),
        lambda cursor: cursor.fetchall(),
    ],
    ids=["fetchone", "fetchmany", "fetchall"],
)
def test_error_of_fetching_is_what_django_makes_of_it(
    fetch: Callable[[Any], Any], in_process: None
) -> None:
    """Django's class, caused by the driver's, and Django notes that its connection may be unusable."""
    raised: list[OperationalError] = []

    def view(request: Any) -> HttpResponse:
        connection = connections["default"]
        connection.errors_occurred = False
        with connection.cursor() as cursor:
            # The second row overflows; SQLite makes each row when it is fetched.
            cursor.execute(
                "SELECT abs(n) FROM (SELECT 1 AS n UNION ALL SELECT -9223372036854775808)"
            )
            try:
                fetch(cursor)
            except OperationalError as error:
                raised.append(error)
        assert connection.errors_occurred
        return HttpResponse()

    event = event_of(view)
    assert (event["db_queries"], event["resp_status"]) == (1, 200)
    [error] = raised
    assert type(error.__cause__) is sqlite3.OperationalError
    assert str(error) == str(error.__cause__) == "integer overflow"
