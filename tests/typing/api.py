"""A user's code, which must type-check under `mypy --strict`. It is never run."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from django.http import HttpRequest, HttpResponse
from typing_extensions import assert_type

import otel_canonical
from otel_canonical.testing import capture_events

version: str = otel_canonical.__version__


def facts() -> None:
    """Everything that can be set, added and read."""
    otel_canonical.set("plan", "pro")
    otel_canonical.set("seats", 3)
    otel_canonical.set("ratio", 0.5)
    otel_canonical.set("trial", True)
    otel_canonical.set("anything", object())
    otel_canonical.set("plan", None)
    otel_canonical.add("items")
    otel_canonical.add("items", 3)
    otel_canonical.add("euros", 1.5)
    plan = otel_canonical.get("plan", "basic")
    if isinstance(plan, str):
        plan.upper()


def timed_block() -> None:
    """A timer around a block; the block's own names stay known after it."""
    with otel_canonical.timer("pricing"):
        price = 3
    assert_type(price, int)
    with otel_canonical.timer("payment", outcome=True) as payment:
        pass
    assert_type(payment, otel_canonical.timer)


@otel_canonical.timer("total")
def total(prices: list[int], *, tax: float = 0.0) -> float:
    """A timed function keeps its signature."""
    return sum(prices) * (1 + tax)


@otel_canonical.timer("total", outcome=True)
async def total_later(prices: list[int]) -> int:
    """A timed coroutine function stays one."""
    return sum(prices)


@otel_canonical.partial_failure(return_value=[])
def recommended(user_id: int) -> list[str]:
    """A survived function keeps its signature."""
    return [str(user_id)]


@otel_canonical.partial_failure()
async def recommended_later(user_id: int) -> list[str] | None:
    """A survived coroutine function stays one."""
    return [str(user_id)]


def signatures() -> None:
    """What callers see of the decorated functions."""
    assert_type(total([1, 2], tax=0.2), float)
    assert_type(recommended(1), list[str])
    later: Awaitable[int] = total_later([1])
    maybe: Awaitable[list[str] | None] = recommended_later(1)
    del later, maybe


@otel_canonical.enrich
def tenant(request: HttpRequest | None, response: HttpResponse | None) -> Mapping[str, object]:
    """A callback with Django's own types."""
    return {"tenant": request.get_host() if request else None}


@otel_canonical.enrich
def nothing(request: object, response: object) -> None:
    """A callback may have nothing to add."""


def test_events() -> None:
    """What a test of the user's looks at."""
    with capture_events() as events:
        pass
    for event in events:
        assert_type(event, dict[str, str | int | float | bool])
