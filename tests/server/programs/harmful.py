"""A Django site whose views do what harms whatever looks at them: large values, hostile errors, alarms, kills."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from django.http import HttpResponse, JsonResponse

import otel_canonical

sys.path.append(str(Path(__file__).parents[3]))  # where `tests` is

from tests.support.alarms import Alarm, TimeIsUp

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
# Nothing but us reads the messages of 50 MB.
LOGGING = {
    "version": 1,
    "handlers": {"none": {"class": "logging.NullHandler"}},
    "loggers": {"django": {"handlers": ["none"], "propagate": False}},
}

#: What views quote: none of it can be written as it is.
POSTED = '{"a": "b=c: d"}\n'
ENDS = {kind.__name__: kind for kind in (SystemExit, KeyboardInterrupt, GeneratorExit)}


class Nameless(type):
    @property
    def __name__(cls):
        raise ValueError("no name")


class HostileName(Exception, metaclass=Nameless):
    pass


class HostileToken(Exception):
    @property
    def token(self):
        raise SystemExit(3)


class EndsTheProcess:
    def __init__(self, kind):
        self.kind = kind

    def __str__(self):
        raise self.kind(4)


@otel_canonical.enrich
def ends_the_process(request, response):
    if request is not None and request.path == "/callback-ends/":
        raise ENDS[request.GET["kind"]](4)


@otel_canonical.enrich
def returns_what_ends_the_process(request, response):
    if request is None or request.path != "/callback-ends/":
        return {}
    return {"hostile": EndsTheProcess(ENDS[request.GET["kind"]]), "good": 1}


def ok(request):
    return HttpResponse("ok")


def callback_ends(request):
    return HttpResponse("answered")


def large_message(request):
    raise ValueError("password=hunter2 " + POSTED * (50_000_000 // len(POSTED)))


def large_values(request):
    text = POSTED * (1_000_000 // len(POSTED))
    for number in range(200):
        otel_canonical.set(f"key{number}", text)
    return HttpResponse("set")


def large_containers(request):
    text = POSTED * (10_000_000 // len(POSTED))
    otel_canonical.set("list", [text] * 20)
    otel_canonical.set("nested", {"inner": {"bytes": text.encode()}})
    return HttpResponse("set")


def hostile_name(request):
    raise HostileName("the message")


def hostile_token(request):
    raise HostileToken("the message")


def adds_under_an_alarm(request):
    """Add to a fact again and again; the alarm rings in the first line of ours, then in the second…"""
    rung = told = 0
    while True:
        alarm = Alarm(rung + 1)
        sys.settrace(alarm)
        try:
            otel_canonical.add("items")
        except TimeIsUp:
            told += 1
        finally:
            sys.settrace(None)
        if not alarm.where:
            return JsonResponse({"rung": rung, "told": told})
        rung += 1


armed = Alarm(0)


def closes_under_an_alarm(request):
    """Answer; the alarm rings in the n-th line of ours behind this, also in the next request's opening."""
    global armed
    sys.settrace(None)
    before, armed = armed, Alarm(int(request.GET["at"]))
    sys.settrace(armed)
    return JsonResponse({"is_armed": bool(before.left > 0 and not before.where)})


def killed_while_encoding(request):
    """Answer; the worker is killed by the first call of the encoder, as anybody may kill it just then."""

    def kill(frame, event, argument):
        if frame.f_code.co_filename.endswith("/logfmt.py"):
            os.kill(os.getpid(), signal.SIGKILL)

    otel_canonical.set("note", "must be quoted")
    sys.settrace(kill)
    return HttpResponse("answered")


def _urls():
    from django.urls import path

    views = (
        *(ok, callback_ends, large_message, large_values, large_containers),
        *(hostile_name, hostile_token, adds_under_an_alarm, closes_under_an_alarm),
        killed_while_encoding,
    )
    return [path(f"{view.__name__.replace('_', '-')}/", view) for view in views]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
