"""A Django site whose views render templates and use caches, in spans of their own and in streams."""

from __future__ import annotations

import os

from django.http import HttpResponse, StreamingHttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "other": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "other"},
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {
                        "base.html": "{% block body %}{% endblock %}",
                        "page.html": "{% extends 'base.html' %}{% block body %}"
                        "{% include 'part.html' %}{% endblock %}",
                        "part.html": "{{ query }}",
                        "bad.html": "{{ fails }}",
                    },
                )
            ]
        },
    }
]


def _query():
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]


def _raise():
    raise ValueError("password=hunter2")


def renders(request):
    """A page with a query in a template, and a text that is rendered without a name."""
    from django.shortcuts import render
    from django.template import Context, engines

    engines["django"].from_string("x").template.render(Context())
    return render(request, "page.html", {"query": _query})


def renders_badly(request):
    from django.shortcuts import render

    return render(request, "bad.html", {"fails": _raise})


def caches(request):
    from django.core.cache import cache, caches

    cache.set("a", 1)
    cache.get("a")
    cache.get_many(["a", "b"])
    cache.incr("a")
    cache.get_or_set("computed", _query)
    caches["other"].set_many({"x": 1, "y": 2})
    cache.delete_many(["a", "computed"])
    return HttpResponse("cached")


def streams(request):
    from django.core.cache import cache
    from django.template.loader import render_to_string

    def body():
        yield "begun"
        yield render_to_string("page.html", {"query": _query})
        cache.get("streamed")
        _call(request.GET["url"])
        yield "done"

    return StreamingHttpResponse(body())


def calls(request):
    _call(request.GET["url"])
    return HttpResponse("called")


def own_span(request):
    from django.core.cache import cache
    from opentelemetry import trace

    with trace.get_tracer("app").start_as_current_span("pricing"):
        cache.get("price")
    return HttpResponse("priced")


async def async_caches(request):
    from django.core.cache import cache

    await cache.aset("async", 1)
    await cache.aget("async")
    return HttpResponse("cached")


def _call(url):
    import requests
    import urllib3

    requests.get(url, timeout=5)
    urllib3.PoolManager().request("GET", url, timeout=5)


def _urls():
    from django.urls import path

    names = "renders renders_badly caches streams calls own_span async_caches".split()
    return [path(f"{name.replace('_', '-')}/", globals()[name]) for name in names]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
