"""Slow queries whose plan is wanted: noted while a request runs, looked into after its response. Pure.

A request keeps a few; `worker.plan_worker` takes them over when the request has ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from otel_canonical.request.query_tally import QueryTally
from otel_canonical.stacks import query_location

#: The most slow queries of one request whose plans are fetched.
MOST_PER_REQUEST = 3

#: Longer texts, and more parameters, are not kept until the response is out.
LONGEST_TEXT, MOST_PARAMETERS = 20_000, 1000


class OpenSpan(Protocol):
    """The span of a query, held open until the plan is known."""

    def add_event(self, name: str, attributes: Any = None) -> None:
        """Add the plan."""

    def end(self, end_time: int | None = None) -> None:
        """End it, at the time when the query ended."""

    def is_recording(self) -> bool:
        """Return whether it has not ended yet."""


@dataclass(slots=True)
class SlowQuery:
    """A SELECT that took long, and what is needed to ask its database for the plan."""

    alias: str
    sql: str
    params: Any
    elapsed_ns: int
    loc: str | None
    span: OpenSpan | None = None
    ended_wall_ns: int = 0

    def end_span(self, plan: str | None = None) -> None:
        """End the query's span, with the plan as an event if there is one."""
        span, self.span = self.span, None
        # Whoever aborts a worker ends open spans first.
        if span is not None and span.is_recording():
            if plan is not None:
                span.add_event("db.plan", {"canonical.db.plan": plan})
            span.end(self.ended_wall_ns)


@dataclass(slots=True)
class Plan:
    """What a database says of a query, or why it doesn't."""

    text: str = ""
    why_not: str = ""


@dataclass(slots=True)
class Explaining:
    """Whether plans are wanted in this process, and who can fetch one."""

    #: Queries that take longer are explained.
    slow_ns: int = sys.maxsize
    fetch: Callable[[SlowQuery], Plan] | None = None


explaining = Explaining()


def explain_with(fetch: Callable[[SlowQuery], Plan]) -> None:
    """Have plans fetched by a function from now on, if the operator wants plans."""
    explaining.fetch = fetch


def note(
    queries: QueryTally, alias: str, sql: str, params: Any, elapsed_ns: int
) -> SlowQuery | None:
    """Note a slow query if its plan can be asked for; return it."""
    if (
        explaining.fetch is None
        or len(queries.slow) >= MOST_PER_REQUEST
        or not is_explainable(sql)
        or (params is not None and len(params) > MOST_PARAMETERS)
    ):
        return None
    query = SlowQuery(alias, sql, params, elapsed_ns, query_location.locate())
    queries.slow.append(query)
    return query


def is_explainable(sql: str) -> bool:
    """Return whether a text is a single SELECT; of anything else no plan is asked for."""
    text = sql.strip()
    return (
        len(text) <= LONGEST_TEXT
        and text[:6].upper() == "SELECT"
        and ";" not in text.rstrip(";")
        and " INTO " not in text.upper()
    )
