"""A Django site in one file with one view for every kind of request that the tests ask for."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sqlite3
import tempfile
import threading
import time

from django.conf import settings
from django.http import FileResponse, Http404, HttpResponse, JsonResponse, StreamingHttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
DEBUG = os.environ.get("SITE_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = __name__
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
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


def queries(request):
    """Three queries on one alias, two of the same text, and one on the other; an executemany."""
    from django.db import connections

    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT 1 WHERE %s = 1", [1])
        cursor.execute("SELECT 1 WHERE %s = 1", [2])
        cursor.execute("SELECT 2")
    with connections["other"].cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS t (n integer)")
        cursor.executemany("INSERT INTO t VALUES (%s)", [[1], [2], [3]])
    return HttpResponse("queried")


def failing_query(request):
    from django.db import DatabaseError, connection

    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM WHERE nonsense")
    except DatabaseError:
        return HttpResponse("survived")


async def async_queries(request):
    from django.contrib.contenttypes.models import ContentType

    try:
        await ContentType.objects.acount()
    except Exception:
        return HttpResponse("no table")
    return HttpResponse("queried")


def raw_sqlite(request):
    """A query that Django isn't between."""
    connection = sqlite3.connect(":memory:")
    connection.cursor().execute("SELECT 1")
    return HttpResponse("queried")


def migrates(request):
    """Make the tables that the views which use models need."""
    from django.core.management import call_command

    for alias in DATABASES:
        call_command("migrate", database=alias, verbosity=0)
    return HttpResponse("migrated")


def two_databases(request):
    """One query of one text on each alias: two runs of one text."""
    from django.contrib.contenttypes.models import ContentType

    for alias in DATABASES:
        ContentType.objects.using(alias).count()
    return HttpResponse("counted")


def iterates(request):
    """One query, however many rows; PostgreSQL reads it with a server-side cursor."""
    from django.contrib.contenttypes.models import ContentType

    rows = len(list(ContentType.objects.iterator(chunk_size=2)))
    return JsonResponse({"rows": rows})


def executes_many(request):
    """Two queries, however many rows the second one is run for."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS many (n integer)")
        cursor.executemany("INSERT INTO many VALUES (%s)", [[n] for n in range(100)])
    return HttpResponse("executed")


def composed_sql(request):
    """The same SQL twice, composed of parts as psycopg has it."""
    from django.db import connection
    from psycopg import sql

    with connection.cursor() as cursor:
        for _ in range(2):
            cursor.execute(sql.SQL("SELECT {}").format(sql.Literal(7)))
    return HttpResponse("composed")


def sql_as_sent(request):
    """What PostgreSQL got, twice the same query; with `stream` in the body."""
    from django.db import connection

    def texts():
        for _ in range(2):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND %s = '%%'",
                    ["%"],
                )
                yield cursor.fetchone()[0] + "\n"

    if "stream" in request.GET:
        return StreamingHttpResponse(texts())
    return HttpResponse("".join(texts()))


def raw_psycopg(request):
    """A query on a connection that isn't Django's."""
    import psycopg

    with psycopg.connect(host=os.environ["SITE_POSTGRES"], user="postgres") as connection:
        connection.cursor().execute("SELECT 1")
    return HttpResponse("queried")


def atomically(request):
    """One query in a transaction and one in a savepoint: two."""
    from django.contrib.contenttypes.models import ContentType
    from django.db import transaction

    with transaction.atomic():
        ContentType.objects.count()
        with transaction.atomic():
            ContentType.objects.first()
    return HttpResponse("committed")


async def async_counts(request):
    from django.contrib.contenttypes.models import ContentType

    await ContentType.objects.acount()
    async for _ in ContentType.objects.all():
        pass
    return HttpResponse("counted")


def collects_garbage(request):
    """Collect what earlier requests left behind, then query without Django."""
    gc.collect()
    return raw_sqlite(request)


def stream(request):
    from django.db import connection

    def body():
        for n in range(3):
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s", [n])
            time.sleep(0.1)
            yield f"{n}\n"

    return StreamingHttpResponse(body())


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


def own_spans(request):
    """A span of the app's own, a query in it."""
    from django.db import connection
    from opentelemetry import trace

    with trace.get_tracer("app").start_as_current_span("pricing"), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("priced")


def odd_facts(request):
    """Values and keys that nobody expects; each must leave the line and the span whole."""
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
    from django.urls import path

    views = {name: value for name, value in globals().items() if callable(value)}
    names = """ok created raises raises_caused raises_in_library raises_secret missing good_template
    bad_template syntax_template queries failing_query async_queries raw_sqlite stream stream_breaks
    stream_long file facts short_timers partial many_facts cached signed_in anonymous spends_cpu
    sleeps async_view leaves_thread pid exits os_error migrates two_databases iterates atomically
    collects_garbage executes_many composed_sql sql_as_sent raw_psycopg async_counts clock outgoing own_spans odd_facts partial_then_waits async_partial""".split()
    return [
        *[path(f"{name.replace('_', '-')}/", views[name], name=name) for name in names],
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
