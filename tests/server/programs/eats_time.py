"""A site whose views spend their time in one way each."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import time
from pathlib import Path

from django.conf import settings
from django.http import HttpResponse
from django.urls import path

kept: list[bytes] = []


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


def collects(request):
    """Make cycles, and answer how many seconds and collections that took by its own clock."""
    seen: list[float] = []
    started: list[float] = []

    def note(phase, info):
        if phase == "start":
            started.append(time.perf_counter())
        else:
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
    return HttpResponse(f"{sum(seen)} {len(seen)}")


def grows(request):
    """Keep 32 MiB."""
    kept.append(b"x" * (32 << 20))
    time.sleep(0.02)
    return HttpResponse("grown")


def imports(request):
    """Import a module that nothing has imported."""
    sys.modules.pop("this", None)
    sys.modules.pop("antigravity", None)
    importlib.import_module("colorsys")
    return HttpResponse("imported")


def complains(request):
    """Log two warnings and an error, and what isn't to be counted."""
    logger = logging.getLogger("shop")
    logger.warning("one")
    logger.warning("two")
    logger.error("three")
    logger.info("four")
    return HttpResponse(status=404)


def application():
    """Make the WSGI application."""
    views = (ok, burns, sleeps, collects, grows, imports, complains)
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="tests",
            ROOT_URLCONF=__name__,
            LOGGING_CONFIG=None,
            BASE_DIR=Path(__file__).parent,
        )
    globals()["urlpatterns"] = [path(f"{view.__name__}/", view) for view in views]
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = application()
