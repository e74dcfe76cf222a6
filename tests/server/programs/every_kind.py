"""A Django site with one view for every kind of request that the tests ask for."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time

import every_kind_partials
from django.conf import settings
from django.http import FileResponse, Http404, HttpResponse, JsonResponse, StreamingHttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
DEBUG = os.environ.get("SITE_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = __name__
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
# Tables are made from the models, in a quarter of the time.
MIGRATION_MODULES = {"contenttypes": None, "auth": None, "sessions": None}
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    f"{__name__}.BreakingMiddleware",
]
DATABASES = {
    alias: {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.path.join(os.environ.get("SITE_DIRECTORY", tempfile.gettempdir()), alias),
    }
    for alias in ("default", "other")
}
if "SITE_POSTGRES" in os.environ:
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["SITE_POSTGRES"],
        "NAME": "postgres",
        "USER": "postgres",
    }
    if os.environ.get("SITE_CONNECTIONS") == "kept":
        DATABASES["default"] |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.locmem.Loader",
                    {
                        "base.html": "<html>\n{% block body %}{% endblock %}\n</html>",
                        "good.html": "{% extends 'base.html' %}\n{% block body %}{{ x }}"
                        "{% include 'part.html' %}{% endblock %}",
                        "part.html": "<b>\n{{ x }}</b>",
                        "bad.html": "{% extends 'base.html' %}\n{% block body %}\n\n"
                        "{% include 'bad_part.html' %}\n{% endblock %}",
                        "bad_part.html": "one\ntwo\n{{ thing.fails }}\n",
                        "syntax.html": "fine\n{% nonsense %}\n",
                        **every_kind_partials.TEMPLATES,
                    },
                )
            ]
        },
    }
]


class Error(Exception):
    """What the breaking views raise."""


class BreakingMiddleware:
    """Raises where the query says so, and answers itself where it says so."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.path == "/middleware-raises/":
            raise_deep("in middleware")
        if request.path == "/middleware-answers/":
            return HttpResponse("early", status=203)
        return self.get_response(request)


def raise_deep(message):
    raise Error(message)


def ok(request):
    return HttpResponse("ok")


def created(request):
    return HttpResponse(request.body, status=201)


def raises(request):
    raise_deep("Oh noes!")


def raises_caused(request):
    try:
        raise_deep("the root")
    except Error as error:
        raise ValueError("wrapped") from error


def raises_in_library(request):
    json.loads("{")


def raises_secret(request):
    raise Error("login failed with password=hunter2 for ada")


def raises_large(request):
    def fall(depth):
        if depth:
            fall(depth - 1)
        raise_deep("what was posted " * 6250)

    fall(800)


def missing(request):
    raise Http404("nothing here")


def good_template(request):
    from django.shortcuts import render

    return render(request, "good.html", {"x": "hello"})


class Thing:
    @property
    def fails(self):
        raise_deep("in a template")


def bad_template(request):
    from django.shortcuts import render

    return render(request, "bad.html", {"thing": Thing()})


def syntax_template(request):
    from django.shortcuts import render

    return render(request, "syntax.html")


def stream_breaks(request):
    def body():
        yield "begun"
        raise_deep("mid-stream")

    return StreamingHttpResponse(body())


def stream_long(request):
    def body():
        for _ in range(2000):
            yield b"x" * 65536

    return StreamingHttpResponse(body())


def file(request):
    return FileResponse(open(__file__, "rb"))  # closed by the response


def cached(request):
    from django.core.cache import cache

    cache.set("here", 1)
    cache.get("here")
    cache.get("gone")
    cache.get_many(["here", "gone", "away"])
    return HttpResponse("cached")


def signed_in(request):
    """A user without a database: what `request.user` was set to."""
    from django.contrib.auth.models import User

    request.user = User(pk=42, username="ada")
    return HttpResponse("hello")


def anonymous(request):
    return HttpResponse("nobody was looked up")


def spends_cpu(request):
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    return HttpResponse("spent")


def sleeps(request):
    time.sleep(float(request.GET.get("s", "0.05")))
    return HttpResponse("slept")


async def async_view(request):
    import otel_canonical

    await asyncio.sleep(0.01)
    otel_canonical.set("async", True)
    return HttpResponse("async")


def clock(request):
    """The time at which Django's view runs; `with_middleware` lets it wait before."""
    return JsonResponse({"now_ns": time.time_ns()})


def outgoing(request):
    """Call each `url` of the query, first with urllib, then with requests."""
    import urllib.request

    import requests

    def through_requests(url):
        requests.get(url, timeout=5)

    def through_urllib(url):
        urllib.request.urlopen(url, timeout=5).close()

    survived = 0
    for url in request.GET.getlist("url"):
        for call in (through_urllib, through_requests):
            try:
                call(url)
            except OSError:
                survived += 1
    return JsonResponse({"survived": survived})


def reset_link(request, uidb64, token):
    return HttpResponse("reset")


def item(request, slug):
    return HttpResponse(slug)


def pid(request):
    return JsonResponse({"pid": os.getpid(), "setting": getattr(settings, "RELOADED", None)})


def exits(request):
    raise SystemExit(3)


def os_error(request):
    raise FileNotFoundError("a file of the app")


def _urls():
    import every_kind_facts
    import every_kind_queries
    from django.urls import path

    here = """ok created raises raises_caused raises_in_library raises_secret
        raises_large missing good_template
        bad_template syntax_template stream_breaks stream_long file cached signed_in anonymous
        spends_cpu sleeps async_view pid exits os_error clock outgoing"""
    queries = """queries failing_query async_queries raw_sqlite migrates two_databases iterates
        executes_many composed_sql sql_as_sent raw_psycopg atomically async_counts
        collects_garbage stream own_spans"""
    facts = """facts short_timers partial many_facts odd_facts partial_then_waits async_partial
        leaves_thread"""
    partials = "partial_page partial_alone partial_page_fails partial_alone_fails"
    views = {
        **{name: globals()[name] for name in here.split()},
        **{name: getattr(every_kind_queries, name) for name in queries.split()},
        **{name: getattr(every_kind_facts, name) for name in facts.split()},
        **{name: getattr(every_kind_partials, name) for name in partials.split()},
    }
    return [
        *[path(f"{name.replace('_', '-')}/", view, name=name) for name, view in views.items()],
        path("item/<slug:slug>/", item, name="item"),
        path("reset/<uidb64>/<token>/", reset_link, name="reset"),
    ]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    django = get_wsgi_application()

    def with_middleware(environ, start_response):
        if environ["PATH_INFO"] == "/wsgi-raises/":
            raise_deep("around Django")
        if environ["PATH_INFO"] == "/wsgi-os-error/":
            raise FileNotFoundError("around Django")
        if environ["PATH_INFO"] == "/clock/":
            time.sleep(0.1)
        if environ["PATH_INFO"] == "/wsgi-answers/":
            start_response("202 Accepted", [("Content-Length", "4")])
            return [b"done"]
        return django(environ, start_response)

    return with_middleware


def _export_spans_to(path):
    """What a site does that has a span processor of its own: add it in code."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    exporter = ConsoleSpanExporter(
        out=open(path, "a"),  # noqa: SIM115  # open as long as the worker
        formatter=lambda span: span.to_json(indent=None) + "\n",
    )
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))


def _query_at_start():
    """What some apps do while they are loaded; no request's business."""
    import django
    from django.db import connection

    import otel_canonical

    django.setup()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'at start'")
    otel_canonical.set("at_start", True)


if "SITE_SPANS_FILE" in os.environ:
    _export_spans_to(os.environ["SITE_SPANS_FILE"])
if os.environ.get("SITE_QUERIES_AT_START") == "1":
    _query_at_start()
application = _application()
