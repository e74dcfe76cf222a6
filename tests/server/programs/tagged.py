"""A site whose requests say how much of everything they do; WSGI and ASGI.

`/work/?queries=3&renders=2&hits=1&misses=4&calls=1&timers=2&commits=1&threads=2&streamed=2`: so many of
each, in an order of their own, with pauses in between in which other requests go on.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import threading
import time
import urllib.request
from pathlib import Path

from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.template import engines
from django.urls import path

import otel_canonical

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ.get("SITE_DIRECTORY", ".")) / "tagged.sqlite3",
        "OPTIONS": {"timeout": 60},
    }
}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


def query():
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def render():
    engines["django"].from_string("{{ 1 }}").render({})


def hit():
    cache.set("there", 1)
    assert cache.get("there") == 1


def miss():
    assert cache.get("nothing is ever here") is None


def call():
    urllib.request.urlopen(os.environ["NEIGHBOUR"], timeout=60).read()


def take_time():
    with otel_canonical.timer("step"):
        pass


def commit():
    """Run a query once the transaction is over."""
    from django.db import transaction

    with transaction.atomic():
        transaction.on_commit(query)


def start_thread():
    """Run a query in a thread that carries this context."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(query_and_close,))
    thread.start()
    thread.join()


def query_and_close():
    from django.db import connection

    try:
        query()
    finally:
        connection.close()


WORK = {
    "queries": query,
    "renders": render,
    "hits": hit,
    "misses": miss,
    "calls": call,
    "timers": take_time,
    "commits": commit,
    "threads": start_thread,
}


def plan_of(request):
    """Return what a request asks for, shuffled."""
    steps = [work for name, work in WORK.items() for _ in range(int(request.GET.get(name, "0")))]
    random.shuffle(steps)
    return steps


def pause():
    return random.random() * 0.004


def sync_work(request):
    for step in plan_of(request):
        time.sleep(pause())
        step()
    streamed = int(request.GET.get("streamed", "0"))
    if not streamed:
        return HttpResponse("done")

    def body():
        for _ in range(streamed):
            time.sleep(pause())
            query()
            yield b"piece"

    return StreamingHttpResponse(body())


async def async_work(request):
    for step in plan_of(request):
        await asyncio.sleep(pause())
        await sync_to_async(step, thread_sensitive=random.random() < 0.5)()
    streamed = int(request.GET.get("streamed", "0"))
    if not streamed:
        return HttpResponse("done")

    async def body():
        for _ in range(streamed):
            await asyncio.sleep(pause())
            await sync_to_async(query)()
            yield b"piece"

    return StreamingHttpResponse(body())


IS_ASGI = os.environ.get("IS_ASGI") == "1"

urlpatterns = [path("work/", async_work if IS_ASGI else sync_work), path("sync/", sync_work)]

application = get_asgi_application() if IS_ASGI else get_wsgi_application()
