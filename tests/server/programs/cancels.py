"""A Django site whose async views give up on a query, a look-up or a render that a thread is still at.

`application` is its WSGI app, `asgi` its ASGI app.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from pathlib import Path

from asgiref.sync import sync_to_async
from django.core.cache.backends.locmem import LocMemCache
from django.http import HttpResponse
from giving_up import PATIENCE_S, Hold, give_up_on

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ.get("SITE_DIRECTORY", ".")) / "cancels.sqlite3",
    }
}
CACHES = {"default": {"BACKEND": f"{__name__}.HeldCache"}}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {
                        "page.html": "{% include 'part.html' %}{{ held }}{% include 'part.html' %}",
                        "part.html": "part",
                    },
                )
            ]
        },
    }
]


class HeldCache(LocMemCache):
    """Held where `holds` says so, in a look-up of the key "held"."""

    holds: Hold | None = None

    def get(self, key, default=None, version=None):
        if key == "held":
            type(self).holds()
        return super().get(key, default, version=version)


def _call(url):
    import requests

    requests.get(url, timeout=PATIENCE_S)


def calls(request):
    _call(request.GET["url"])
    return HttpResponse("called")


async def gives_up_on_query(request):
    """One query and two calls."""
    from django.db import connection

    hold = Hold()

    def query():
        with connection.cursor() as cursor:
            connection.connection.create_function("hold", 0, hold)
            cursor.execute("SELECT hold()")

    await give_up_on(query)
    _call(request.GET["url"])
    await hold.let_go()
    _call(request.GET["url"])
    return HttpResponse("gave up")


def calls_beside_query(request):
    """A query in a thread of the request, or a greenlet, and a call while that still runs."""
    from django.db import connection

    runs, goes_on = threading.Event(), threading.Event()

    def hold():
        runs.set()
        return goes_on.wait(PATIENCE_S)

    def query():
        with connection.cursor() as cursor:
            connection.connection.create_function("hold", 0, hold)
            cursor.execute("SELECT hold()")
        connection.close()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(query,))
    thread.start()
    runs.wait(PATIENCE_S)
    _call(request.GET["url"])
    goes_on.set()
    thread.join()
    return HttpResponse("called")


async def gives_up_on_look_up(request):
    """Three misses, one of them of what was given up on, and a hit."""
    from django.core.cache import cache

    HeldCache.holds = Hold()
    cache.clear()
    await give_up_on(cache.get, "held")
    cache.get("gone")
    await HeldCache.holds.let_go()
    cache.get("gone")
    cache.set("here", 1)
    cache.get("here")
    return HttpResponse("gave up")


async def gives_up_on_get_or_set(request):
    """A miss, then a hit by the view itself."""
    from django.core.cache import cache

    hold = Hold()
    cache.clear()
    await give_up_on(cache.get_or_set, "computed", hold)
    await hold.let_go()
    cache.get("computed")
    return HttpResponse("gave up")


def looks_up(request):
    """A miss and a hit, of the keys of the views above."""
    from django.core.cache import cache

    cache.set("computed", 1)
    cache.get("computed")
    cache.get("gone")
    return HttpResponse("looked up")


async def gives_up_on_render(request):
    """Three renders, one of them given up on."""
    from django.template.loader import render_to_string

    hold = Hold()
    await give_up_on(render_to_string, "page.html", {"held": hold})
    render_to_string("page.html")
    await hold.let_go()
    render_to_string("page.html")
    return HttpResponse("gave up")


def renders(request):
    from django.shortcuts import render

    return render(request, "page.html")


async def renders_side_by_side(request):
    """Two renders, each begun before the other one ends."""
    from django.template.loader import render_to_string

    both = threading.Barrier(2, timeout=PATIENCE_S)
    render = sync_to_async(render_to_string, thread_sensitive=False)
    await asyncio.gather(
        render("page.html", {"held": both.wait}), render("page.html", {"held": both.wait})
    )
    return HttpResponse("rendered")


def _urls():
    from django.urls import path

    names = """calls gives_up_on_query calls_beside_query gives_up_on_look_up gives_up_on_get_or_set looks_up
    gives_up_on_render renders renders_side_by_side""".split()
    return [path(f"{name.replace('_', '-')}/", globals()[name]) for name in names]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def _asgi():
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


application = _application()
asgi = _asgi()
