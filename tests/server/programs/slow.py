"""A Django site with slow views, one of them excused, one with secrets among its locals."""

from __future__ import annotations

import os
import time

from django.http import HttpResponse, StreamingHttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__


def takes(request):
    wait(float(request.GET["s"]))
    return HttpResponse("done")


def wait(seconds):
    password = "hunter2"  # noqa: F841  # a local that must not be shown
    basket = "three apples"  # noqa: F841  # one that may
    time.sleep(seconds)


def export(request):
    wait(float(request.GET["s"]))
    return HttpResponse("exported")


def streams(request):
    def body():
        for _ in range(6):
            time.sleep(0.1)
            yield b"."

    return StreamingHttpResponse(body())


def _urls():
    from django.urls import path

    return [
        path("takes/", takes),
        path("export/", export, name="export"),
        path("streams/", streams),
    ]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
