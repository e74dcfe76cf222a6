"""Views of `every_kind` that say something of their request, or survive a failure of their own."""

from __future__ import annotations

import asyncio
import os
import threading
import time

from django.http import HttpResponse, JsonResponse
from every_kind import raise_deep


def facts(request):
    import otel_canonical

    token = request.GET.get("t", "")
    otel_canonical.set("seen", token)
    otel_canonical.set("plan", "pro")
    otel_canonical.set("api_key", "s3cret")
    otel_canonical.add("items", 3)
    otel_canonical.add("items", 4)
    assert otel_canonical.get("items") == 7
    with otel_canonical.timer("once"):
        time.sleep(0.01)
    for _ in range(3):
        with otel_canonical.timer("thrice"):
            pass
    return HttpResponse("set")


def short_timers(request):
    import otel_canonical

    started = time.perf_counter()
    for _ in range(100):
        with otel_canonical.timer("short"):
            end = time.perf_counter() + 0.0003
            while time.perf_counter() < end:
                pass
    return JsonResponse({"elapsed": time.perf_counter() - started})


def partial(request):
    import otel_canonical

    @otel_canonical.partial_failure(return_value=[])
    def will_throw():
        raise_deep("Oh noes!")

    first = will_throw()
    first.append("mine")
    return JsonResponse({"second": will_throw()})


def many_facts(request):
    import otel_canonical

    for n in range(300):
        otel_canonical.set(f"key_{n}", "v" * 40)
    return HttpResponse("many")


def odd_facts(request):
    """Odd values and keys; each must leave the line and the span whole."""
    import datetime
    import decimal
    import enum

    import otel_canonical

    class Plan(str, enum.Enum):
        PRO = "pro"

    class Fails:
        def __str__(self):
            raise ValueError("no text for me")

    for key, value in {
        "date": datetime.date(2024, 2, 29),
        "decimal": decimal.Decimal("1.50"),
        "enum": Plan.PRO,
        "fails": Fails(),
        "huge": 2**70,
        "infinite": float("inf"),
        "list": [1, "two"],
        "no_number": float("nan"),
        "surrogate": "a\ud800b",
        "true": True,
        "unset": None,
        'a key="b"\n': "repaired",
        "": "no key",
        "event_type": "forged",
        7: "a number for a key",
    }.items():
        otel_canonical.set(key, value)
    return HttpResponse("odd")


def partial_then_waits(request):
    """Survive a failure, then wait for the file that `until` names."""
    import otel_canonical

    @otel_canonical.partial_failure(return_value="degraded")
    def will_throw():
        raise_deep("Oh noes!")

    answer = will_throw()
    deadline = time.monotonic() + 10
    while not os.path.exists(request.GET["until"]) and time.monotonic() < deadline:
        time.sleep(0.01)  # the test makes the file once it has seen the failure's line
    return HttpResponse(answer)


async def async_partial(request):
    import otel_canonical

    @otel_canonical.partial_failure(return_value="degraded")
    async def will_throw():
        await asyncio.sleep(0)
        raise_deep("Oh noes!")

    return HttpResponse(await will_throw())


def leaves_thread(request):
    """A thread that outlives its request and then tries to write into it."""
    import contextvars

    import otel_canonical

    answered = threading.Event()
    request.META["wsgi.errors"]  # the environment is real

    def late():
        answered.wait(0.3)
        otel_canonical.set("late", True)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(late,)).start()
    return HttpResponse("left")
