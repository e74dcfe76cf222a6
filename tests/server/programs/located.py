"""A Django site whose views get stuck, each in another way, until a file appears.

`zipped` and `packaged` are modules that tests put into a zip file and into a directory of packages.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.template import engines
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
MIDDLEWARE = [f"{__name__}.Before"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"libraries": {"stuck_tags": "stuck_tags"}},
    }
]


class Before:
    """Middleware of the app's, on every request's stack; it raises when it is asked to."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if "raise" in request.GET:
            raise LookupError("middleware")
        return self.get_response(request)


def wait_for(gate):
    deadline = time.monotonic() + 25
    while not os.path.exists(gate) and time.monotonic() < deadline:
        time.sleep(0.02)


def function(request):
    wait_for(request.GET["for"])
    return HttpResponse("done")


@never_cache
def decorated(request):
    wait_for(request.GET["for"])
    return HttpResponse("done")


def with_argument(plan, request):
    wait_for(request.GET["for"])
    return HttpResponse(plan)


class Page(View):
    @method_decorator(never_cache)
    def get(self, request):
        wait_for(request.GET["for"])
        return HttpResponse("done")


def tag(request):
    template = engines["django"].from_string("{% load stuck_tags %}{% wait_for gate %}")
    return HttpResponse(template.render({"gate": request.GET["for"]}))


def generator(request):
    def body():
        yield b"be"
        wait_for(request.GET["for"])
        yield b"gun"

    return StreamingHttpResponse(body())


def reads(request):
    return HttpResponse(request.body)


def writes(request):
    return HttpResponse(b"x" * 30_000_000)


async def awaits(request):
    while not os.path.exists(request.GET["for"]):  # noqa: ASYNC110, ASYNC240  # another process makes it
        await asyncio.sleep(0.02)
    return HttpResponse("done")


async def in_thread(request):
    await sync_to_async(wait_for)(request.GET["for"])
    return HttpResponse("done")


def _urls():
    import packaged
    import zipped
    from django.urls import path

    return [
        path("function/", function),
        path("decorated/", decorated),
        path("partial/", functools.partial(with_argument, "pro")),
        path("page/", Page.as_view()),
        path("tag/", tag),
        path("generator/", generator),
        path("reads/", reads),
        path("writes/", writes),
        path("awaits/", awaits),
        path("in_thread/", in_thread),
        path("zipped/", zipped.zipped),
        path("packaged/", packaged.packaged),
    ]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def _asgi():
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


application = _application()
asgi = _asgi()
