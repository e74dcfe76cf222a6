"""A Django site whose requests stay open in known places: asleep, in a query, a render, a call, the GIL.

`application` is its WSGI app, `asgi` its ASGI app. A request ends when the file of `?for=` appears.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import re
import sqlite3
import sys
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
if "SITE_COLLECTS_EVERY" in os.environ:
    # So many new objects. Threads take turns often, too.
    gc.set_threshold(int(os.environ["SITE_COLLECTS_EVERY"]), 1000, 1000)
    sys.setswitchinterval(1e-5)
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


def renders(request, number=0):
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


async def async_calls(request):
    """A call in a task of its own to a server of this worker's loop, which answers when it is told."""

    async def answer(reader, writer):
        deadline = time.monotonic() + PATIENCE_S
        while not is_over(request) and time.monotonic() < deadline:  # noqa: ASYNC110  # a file has no event
            await asyncio.sleep(0.02)
        writer.write(b"answered\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        body = await reader.readline()
        writer.close()
    return HttpResponse(body)


def reads_postgres(request):
    """Wait in libpq for a row; what is shorter, or another row, was cut short."""
    import psycopg

    seconds = float(request.GET["s"])
    started = time.monotonic()
    with psycopg.connect(os.environ["SITE_POSTGRES"]) as connected:
        row = connected.execute("SELECT 42 FROM pg_sleep(%s)", [seconds]).fetchone()
    assert row == (42,), row
    return _waited(started, seconds)


def reads_http(request):
    """Wait in `requests` for an answer in two parts; what is shorter was cut short."""
    import requests

    seconds = float(request.GET["s"])
    started = time.monotonic()
    answer = requests.get(f"{_slow_service()}?s={seconds}", timeout=seconds + PATIENCE_S)
    assert answer.content == 2 * HALF, len(answer.content)
    return _waited(started, seconds)


def _waited(started, least_s):
    waited = time.monotonic() - started
    assert waited >= least_s, waited
    return JsonResponse({"waited": waited})


HALF = b"half" * 10_000


@functools.cache
def _slow_service():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            pause_s = float(self.path.partition("=")[2]) / 2
            self.send_response(200)
            self.send_header("Content-Length", str(2 * len(HALF)))
            self.end_headers()
            for _ in range(2):
                time.sleep(pause_s)
                self.wfile.write(HALF)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


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
    # Threads of two workers may have the same ident.
    name = str(DIRECTORY / f"lock{os.getpid()}-{threading.get_ident()}.sqlite3")
    holder = sqlite3.connect(name, timeout=60, isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE IF NOT EXISTS t (x)")
    holder.execute("BEGIN EXCLUSIVE")
    threading.Timer(seconds, lambda: holder.execute("COMMIT")).start()
    waiter = sqlite3.connect(name, timeout=60, isolation_level=None)
    started = time.monotonic()
    waiter.execute("INSERT INTO t VALUES (1)")
    # The timer may be ahead of this thread on a busy machine.
    return _waited(started, seconds / 2)


def _urls():
    from django.urls import path

    return [
        path("ok/", ok),
        path("sleeps/<slug:name>/", sleeps),
        path("renders/<int:number>/", renders),
        path("async-sleeps/<slug:name>/", async_sleeps),
        *(
            path(f"{view.__name__.replace('_', '-')}/", view)
            for view in (queries, renders, calls, async_calls, holds_gil, async_holds_gil, spins)
        ),
        *(
            path(f"{view.__name__.replace('_', '-')}/", view)
            for view in (waits_for_lock, reads_postgres, reads_http)
        ),
    ]


urlpatterns = _urls()


def _applications():
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application(), get_asgi_application()


application, asgi = _applications()
