"""A Django site whose views query, then fail, take their time, hang or die."""

from __future__ import annotations

import os
import signal
import time

from django.http import Http404, HttpResponse, StreamingHttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}


def _query():
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _work():
    from opentelemetry import trace

    with trace.get_tracer("app").start_as_current_span("work"):
        _query()


def ok(request):
    _work()
    return HttpResponse("ok")


def fails(request):
    _work()
    raise ValueError("Oh noes!")


def missing(request):
    _work()
    raise Http404


def breaks(request):
    def body():
        yield "begun"
        _work()
        raise ValueError("mid-stream")

    return StreamingHttpResponse(body())


def slow(request):
    _work()
    time.sleep(0.6)
    return HttpResponse("slow")


def hangs(request):
    from opentelemetry import trace

    _work()
    with trace.get_tracer("app").start_as_current_span("hanging"):
        time.sleep(30)


def dies(request):
    _work()
    os.kill(os.getpid(), signal.SIGKILL)


def many(request):
    from opentelemetry import trace

    tracer = trace.get_tracer("app")
    for _ in range(1500):
        tracer.start_span("one of many").end()
    raise ValueError("too many")


def _urls():
    from django.urls import path

    names = "ok fails missing breaks slow hangs dies many".split()
    return [path(f"{name}/", globals()[name]) for name in names]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
