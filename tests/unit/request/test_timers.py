"""`otel_canonical.timer` as context manager and decorator."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpResponse

import otel_canonical
from otel_canonical.request import app_facts
from otel_canonical.request.scope import RequestScope, current_scope
from tests.support.in_process import event_of, take_10_ms


def test_timer_times_functions(in_process: None) -> None:
    """As a decorator, sync or async, it adds up each call until its result is there."""

    @otel_canonical.timer("sync")
    def work(x: int, *, y: int = 0) -> int:
        """Work."""
        take_10_ms()
        return x + y

    @otel_canonical.timer("async")
    async def work_async(x: int) -> int:
        await asyncio.sleep(0.01)
        return x

    async def view(request: Any) -> HttpResponse:
        assert work(1, y=2) == 3
        assert work(1) == 1
        assert await asyncio.gather(work_async(5), work_async(6), work_async(7)) == [5, 6, 7]
        return HttpResponse()

    event = event_of(view)
    assert event["app_sync_time"] >= 0.02
    assert event["app_sync_count"] == 2
    assert event["app_async_time"] >= 0.03
    assert event["app_async_count"] == 3
    assert (work.__name__, work.__doc__) == ("work", "Work.")


def test_timer_tells_success_from_failure_when_asked(in_process: None) -> None:
    """Runs that raise have a key of their own, and the exception goes on."""

    @otel_canonical.timer("charge", outcome=True)
    def charge(fails: bool) -> None:
        if fails:
            raise ZeroDivisionError

    def view(request: Any) -> HttpResponse:
        charge(False)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                charge(True)
        return HttpResponse()

    event = event_of(view)
    assert {key for key in event if key.startswith("app_")} == {
        "app_charge_success_time",
        "app_charge_failure_time",
        "app_charge_failure_count",
    }


def test_timers_nest(in_process: None) -> None:
    """An outer timer holds the inner one's time; one inside its like counts twice."""
    same = otel_canonical.timer("same")

    def view(request: Any) -> HttpResponse:
        with otel_canonical.timer("outer"), otel_canonical.timer("inner"):
            take_10_ms()
        with same, same:
            take_10_ms()
        return HttpResponse()

    event = event_of(view)
    assert event["app_outer_time"] >= event["app_inner_time"] >= 0.01
    assert (event["app_same_count"], event["app_same_time"] >= 0.02) == (2, True)
    assert "app_outer_count" not in event


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What timers read: nanoseconds, that stand still until a test moves them."""
    now = [0]
    monkeypatch.setattr(app_facts, "time", SimpleNamespace(perf_counter_ns=lambda: now[0]))
    return now


def elapsed_ns(scope: RequestScope) -> dict[str, int]:
    """Return what the timers of a request have measured."""
    return {key: timer.elapsed_ns for key, timer in (scope.timers or {}).items()}


class InThread:
    """A thread that does what it is told, one thing after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    def run(self, do: Callable[..., Any], *args: Any) -> Any:
        """Return what that returns."""
        return self._thread.submit(do, *args).result(10)


@pytest.mark.parametrize("place", [InThread, contextvars.Context])
def test_shared_timer_is_right_when_requests_overlap(
    place: Callable[[], InThread | contextvars.Context], clock: list[int]
) -> None:
    """In threads, and in contexts, which is what greenlets and tasks have."""
    pricing = otel_canonical.timer("pricing")
    scopes, places = [RequestScope("GET", "/", {}) for _ in range(2)], [place(), place()]

    def begin(n: int, at_ns: int) -> None:
        clock[0] = at_ns
        places[n].run(pricing.__enter__)

    def end(n: int, at_ns: int) -> None:
        clock[0] = at_ns
        places[n].run(pricing.__exit__, None, None, None)

    for n, scope in enumerate(scopes):
        places[n].run(current_scope.set, scope)
    begin(0, 0)
    begin(1, 1000)
    begin(1, 1100)
    end(0, 1200)
    end(1, 1300)
    end(1, 1400)
    assert [elapsed_ns(scope) for scope in scopes] == [{"pricing": 1200}, {"pricing": 600}]


def test_shared_timer_is_right_when_tasks_take_turns(clock: list[int]) -> None:
    """Each is timed from its own beginning, one that failed as well."""
    pricing = otel_canonical.timer("pricing", outcome=True)
    scope = RequestScope("GET", "/", {})

    async def price(began: asyncio.Event, goes_on: asyncio.Event, *, fails: bool) -> None:
        with contextlib.suppress(ValueError), pricing:
            began.set()
            await goes_on.wait()
            if fails:
                raise ValueError

    async def serve() -> None:
        current_scope.set(scope)
        tasks, goes_on = [], []
        for fails in (True, False):
            began, go_on = asyncio.Event(), asyncio.Event()
            tasks.append(asyncio.create_task(price(began, go_on, fails=fails)))
            goes_on.append(go_on)
            await asyncio.wait_for(began.wait(), 10)
            clock[0] += 1000
        for task, go_on in zip(tasks, goes_on, strict=True):
            go_on.set()
            await asyncio.wait_for(task, 10)
            clock[0] += 10

    asyncio.run(serve())
    assert elapsed_ns(scope) == {"pricing_failure": 2000, "pricing_success": 1010}


def test_timers_are_right_when_generators_take_turns(clock: list[int]) -> None:
    """Runs of one thread that don't end in the order in which they began."""

    def timed(key: str) -> Iterator[None]:
        with otel_canonical.timer(key):
            yield

    def serve() -> None:
        current_scope.set(scope)
        first, second = timed("first"), timed("second")
        for running in (first, second):
            next(running)
            clock[0] += 1000
        for running in (first, second):
            assert next(running, "over") == "over"
            clock[0] += 10

    scope = RequestScope("GET", "/", {})
    context = contextvars.Context()
    context.run(serve)
    assert elapsed_ns(scope) == {"first": 2000, "second": 1010}
    # Nothing is left of them where a thread lives on.
    assert context.get(app_facts._runs) is None


def test_timer_counts_in_threads_of_the_request(in_process: None) -> None:
    """What runs in a thread that carries the request's context belongs to the request."""

    def work() -> None:
        with otel_canonical.timer("work"):
            take_10_ms()

    def view(request: Any) -> HttpResponse:
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return HttpResponse()

    event = event_of(view)
    assert (event["app_work_count"], event["app_work_time"] >= 0.04) == (4, True)
