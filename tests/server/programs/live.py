"""A Django site whose requests stay open in known places: asleep, in a query, a render, a call, the GIL.

`application` is its WSGI app, `asgi` its ASGI app. A request ends when the file of `?for=` appears.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sqlite3
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.template import engines

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DIRECTORY = Path(os.environ.get("SITE_DIRECTORY", "."))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIRECTORY / "live.sqlite3",
        "OPTIONS": {"timeout": 120},
    }
}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"shop": {"format": "shop says: %(message)s"}},
    "handlers": {"shop": {"class": "logging.StreamHandler", "formatter": "shop"}},
    "loggers": {"live.shop": {"handlers": ["shop"], "level": "INFO", "propagate": False}},
}

PATIENCE_S = 120
logger = logging.getLogger("live.shop")


def is_over(request):
    return os.path.exists(request.GET["for"])


def wait_for(gate):
    deadline = time.monotonic() + PATIENCE_S
    while not os.path.exists(gate) and time.monotonic() < deadline:
        time.sleep(0.05)


def ok(request):
    logger.debug("asked for ok %d", os.getpid())
    return HttpResponse("ok")


def sleeps(request, name):
    wait_for(request.GET["for"])
    return HttpResponse(name)


async def async_sleeps(request, name):
    deadline = time.monotonic() + PATIENCE_S
    while not is_over(request) and time.monotonic() < deadline:  # noqa: ASYNC110  # a file has no event
        await asyncio.sleep(0.02)
    return HttpResponse(name)


def queries(request):
    """Two that end, and one that waits for as long as it is told."""
    connection.ensure_connection()
    connection.connection.create_function("wait_for", 1, wait_for)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT 'secret', 2")
        cursor.execute("SELECT wait_for(%s) AS 'waited'", [request.GET["for"]])
    return HttpResponse("queried")


def renders(request):
    template = engines["django"].from_string("{{ wait }}")
    return HttpResponse(template.render({"wait": lambda: wait_for(request.GET["for"])}))


def calls(request):
    """An HTTP call to a server of this worker's own, which answers when it is told."""
    gate = request.GET["for"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wait_for(gate)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=PATIENCE_S):
        return HttpResponse("called")


def holds_gil(request):
    """For ever: a regular expression in C."""
    re.match(r"(a+)+$", "a" * 60 + "b")
    return HttpResponse("never")


async def async_holds_gil(request):
    return holds_gil(request)


def spins(request):
    """Run frames, so that they move under whoever looks."""
    until = time.monotonic() + float(request.GET["s"])
    turns = 0
    while time.monotonic() < until:
        turns += fib(12) > 0
    return JsonResponse({"turns": turns})


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def waits_for_lock(request):
    """SQLite waits for a lock that another connection holds for a while."""
    seconds = float(request.GET["s"])
    name = str(DIRECTORY / f"lock{threading.get_ident()}.sqlite3")
    holder = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE IF NOT EXISTS t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    threading.Timer(seconds, lambda: holder.execute("COMMIT")).start()
    waiter = sqlite3.connect(name, timeout=60, isolation_level=None)
    started = time.monotonic()
    waiter.execute("INSERT INTO t VALUES (1)")
    return JsonResponse({"waited": time.monotonic() - started})


def _urls():
    from django.urls import path

    return [
        path("ok/", ok),
        path("sleeps/<slug:name>/", sleeps),
        path("async-sleeps/<slug:name>/", async_sleeps),
        *(
            path(f"{view.__name__.replace('_', '-')}/", view)
            for view in (queries, renders, calls, holds_gil, async_holds_gil, spins, waits_for_lock)
        ),
    ]


urlpatterns = _urls()


def _applications():
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application(), get_asgi_application()


application, asgi = _applications()
