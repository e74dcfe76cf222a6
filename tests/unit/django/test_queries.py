"""Queries of a view are counted once each."""

from __future__ import annotations

from typing import Any

from django.db import connections
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
