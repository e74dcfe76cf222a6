"""A Django site whose views never come back, each in its own way, and some that die."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time

from django.http import HttpResponse, StreamingHttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
MIDDLEWARE = [f"{__name__}.Middleware"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}

FOREVER_S = 60


class Middleware:
    """An app frame around every view: the view must be named all the same."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)


def ok(request):
    return HttpResponse("ok")


def takes(request):
    """Run for a time that the client names."""
    time.sleep(float(request.GET["s"]))
    return HttpResponse("done")


def wait_inside():
    time.sleep(FOREVER_S)


def sleeps(request):
    wait_inside()


def reads_socket(request):
    ours, _theirs = socket.socketpair()
    ours.recv(1)


def waits_for_lock(request):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def spins(request):
    n = 0
    while True:
        n += 1


def ignores_abort(request):
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    wait_inside()


def swallows_exit(request):
    while True:
        with contextlib.suppress(BaseException):
            wait_inside()


def swallows_exit_in_spans(request):
    from opentelemetry import trace

    tracer = trace.get_tracer("app")
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
        swallows_exit(request)


def regex_holds_gil(request):
    re.match(r"(a+)+$", "a" * 64 + "b")


def c_call_releases_gil(request):
    ctypes.CDLL(None).sleep(FOREVER_S)


def c_call_holds_gil(request):
    ctypes.PyDLL(None).sleep(FOREVER_S)


def queries_then_sleeps(request):
    from django.db import connection

    with connection.cursor() as cursor:
        for _ in range(3):
            cursor.execute("SELECT 1")
    wait_inside()


def streams_then_sleeps(request):
    def body():
        yield "begun"
        wait_inside()

    return StreamingHttpResponse(body())


def survives_abort(request):
    """Told to die, it cleans up and answers."""
    try:
        wait_inside()
    except SystemExit:
        return HttpResponse("cleaned up", status=503)


def kills_itself(request):
    os.kill(os.getpid(), signal.SIGKILL)
    wait_inside()


def segfaults(request):
    crash()


def crash():
    ctypes.string_at(0)


def aborts(request):
    os.abort()


def bus_error(request):
    os.kill(os.getpid(), signal.SIGBUS)
    wait_inside()


def exits_hard(request):
    os._exit(7)


def sys_exits(request):
    sys.exit(7)


def eats_memory(request):
    eaten = []
    while True:
        eaten.append(b"x" * 50_000_000)


def pid(request):
    return HttpResponse(str(os.getpid()))


def _urls():
    from django.urls import path

    names = """ok takes sleeps reads_socket waits_for_lock spins ignores_abort swallows_exit
    swallows_exit_in_spans
    regex_holds_gil c_call_releases_gil c_call_holds_gil queries_then_sleeps streams_then_sleeps
    survives_abort kills_itself segfaults aborts bus_error exits_hard sys_exits eats_memory
    pid""".split()
    return [path(f"{name.replace('_', '-')}/", globals()[name], name=name) for name in names]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
