"""A site whose views spend their time in one way each."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib
import json
import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.template import Context, Template
from django.urls import path

#: How long each part of `everywhere` sleeps, in seconds.
NAPS = {
    "middleware": 0.05,
    "view": 0.06,
    "template": 0.07,
    "query": 0.03,
    "cache": 0.04,
    "body": 0.08,
}

#: Enough for half a second without a look at the GIL.
LONG_SUM = 30_000_000

kept: list[bytes] = []


class SleepyCache(LocMemCache):
    """A cache whose look-ups take as long as any other nap."""

    def get(self, *args, **kwargs):
        """Sleep, then look up."""
        time.sleep(NAPS["cache"])
        return super().get(*args, **kwargs)


def sleepy_middleware(get_response):
    """Sleep in front of the view `everywhere` and behind it."""

    def middleware(request):
        if request.path != "/everywhere/":
            return get_response(request)
        time.sleep(NAPS["middleware"])
        response = get_response(request)
        time.sleep(NAPS["middleware"])
        return response

    return middleware


def ok(request):
    """Answer at once."""
    return HttpResponse("ok")


def burns(request):
    """Use a CPU for as long as the query says, of the thread's own time."""
    until = time.thread_time() + float(request.GET["s"])
    while time.thread_time() < until:
        pass
    return HttpResponse("burnt")


def sleeps(request):
    """Wait for as long as the query says."""
    time.sleep(float(request.GET["s"]))
    return HttpResponse("slept")


def _nap_in_query():
    with connection.cursor() as cursor:
        connection.connection.create_function("nap", 1, time.sleep)
        cursor.execute("SELECT nap(%s)", [NAPS["query"]])


def _nap_in_template():
    time.sleep(NAPS["template"])
    _nap_in_query()
    return "slept"


def everywhere(request):
    """Sleep in each place of a request: a query in the view, another in the template."""
    time.sleep(NAPS["view"])
    _nap_in_query()
    cache.get("key")
    text = Template("{{ nap }}").render(Context({"nap": _nap_in_template}))

    def parts():
        yield text
        time.sleep(NAPS["body"])
        yield text

    return StreamingHttpResponse(parts())


def side_by_side(request):
    """Look two keys up at once, each in a thread of its own."""
    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(contextvars.copy_context().run, cache.get, key) for key in "ab"]
    return HttpResponse(str([look.result() for look in looks]))


async def gathers(request):
    """Look two keys up at once, in two tasks."""
    look = sync_to_async(cache.get, thread_sensitive=False)
    return HttpResponse(str(await asyncio.gather(look("a"), look("b"))))


def waits_for_gil(request):
    """Answer how long another thread has held the GIL, and how often this one ran meanwhile."""
    held: list[float] = []

    def hold():
        started = time.perf_counter()
        sum(range(LONG_SUM))  # one call into C, which never looks whether others wait
        held.append(time.perf_counter() - started)

    holder = threading.Thread(target=hold)
    holder.start()
    runs = 0
    while not held:
        time.sleep(0.001)
        runs += 1
    holder.join()
    return HttpResponse(json.dumps({"held": held[0], "runs": runs}))


def collects(request):
    """Make cycles, and answer how many seconds and collections that took by its own clock."""
    seen: list[float] = []
    started: list[float] = []

    def note(phase, info):
        if phase == "start":
            started.append(time.perf_counter())
        elif started:
            seen.append(time.perf_counter() - started[-1])

    gc.callbacks.append(note)
    try:
        for _ in range(3):
            cycles = [[] for _ in range(200_000)]
            for cycle in cycles:
                cycle.append(cycle)
            del cycles
            gc.collect()
    finally:
        gc.callbacks.remove(note)
    return HttpResponse(json.dumps({"seconds": sum(seen), "runs": len(seen)}))


def grows(request):
    """Keep 32 MiB."""
    kept.append(b"x" * (32 << 20))
    time.sleep(0.02)
    return HttpResponse("grown")


def grows_quickly(request):
    """Keep 8 MiB, perhaps too quickly to be looked at."""
    kept.append(b"x" * (8 << 20))
    return HttpResponse("grown")


def imports(request):
    """Import a module that nothing has imported."""
    sys.modules.pop("colorsys", None)
    importlib.import_module("colorsys")
    return HttpResponse("imported")


def complains(request):
    """Log two warnings and an error, and what isn't to be counted."""
    logger = logging.getLogger("shop")
    logger.warning("one")
    logger.warning("two")
    logger.error("three")
    logger.info("four")
    logging.getLogger("gunicorn.error").error("the server's own")
    return HttpResponse(status=404)


def exits(request):
    """End the worker without a word."""

    os._exit(7)


VIEWS = (
    *(ok, burns, sleeps, everywhere, side_by_side, gathers, waits_for_gil, collects),
    *(grows, grows_quickly, imports, complains, exits),
)


def make_application():
    """Make the WSGI application."""
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="tests",
        ROOT_URLCONF=__name__,
        LOGGING_CONFIG=None,
        BASE_DIR=Path(__file__).parent,
        MIDDLEWARE=[f"{__name__}.sleepy_middleware"],
        CACHES={"default": {"BACKEND": f"{__name__}.SleepyCache"}},
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    )
    globals()["urlpatterns"] = [path(f"{view.__name__}/", view) for view in VIEWS]
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = make_application()
