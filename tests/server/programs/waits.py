"""A Django site whose requests stay until a file appears."""

from __future__ import annotations

import os
import time

from django.http import HttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__


def ok(request):
    return HttpResponse("ok")


def waits(request):
    gate = request.GET["for"]
    deadline = time.monotonic() + 25
    while not os.path.exists(gate) and time.monotonic() < deadline:
        time.sleep(0.02)
    return HttpResponse("let go")


def _urls():
    from django.urls import path

    return [path("ok/", ok), path("waits/", waits)]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
