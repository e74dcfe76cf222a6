"""A Django site whose views fork."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time

from django.http import HttpResponse

import otel_canonical

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}


@otel_canonical.partial_failure()
def fail():
    """Fail in a way that has a line of its own."""
    raise ValueError("survived")


def work_in_child():
    """All that counts in a request."""
    from django.db import connection
    from opentelemetry import trace

    otel_canonical.set("child", os.getpid())
    fail()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    with trace.get_tracer("app").start_as_current_span("child"):
        pass


def forks(request):
    """The child ends by an exception that goes through all of Gunicorn, while the parent answers."""
    pid = os.fork()
    if pid == 0:
        # The connection is the parent's.
        signal.alarm(30)
        work_in_child()
        os.dup2(os.open(os.devnull, os.O_RDWR), request.environ["gunicorn.socket"].fileno())
        sys.exit(3)
    os.waitpid(pid, 0)
    return HttpResponse("forked")


def spawns(request):
    """Work in another process, as with a pool of them."""
    child = multiprocessing.get_context("fork").Process(target=work_in_child)
    child.start()
    child.join()
    return HttpResponse(f"spawned {child.exitcode}")


def hangs(request):
    print("hanging", file=sys.stderr, flush=True)
    time.sleep(60)


def _urls():
    from django.urls import path

    names = "forks spawns hangs".split()
    return [path(f"{name}/", globals()[name], name=name) for name in names]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
