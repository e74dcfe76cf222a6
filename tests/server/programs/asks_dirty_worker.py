"""The site of `stuck`, with a view that has its work done by a dirty worker."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}


def asks(request):
    from django.http import HttpResponse
    from gunicorn.dirty import get_dirty_client

    return HttpResponse(str(get_dirty_client().execute("dirty_tasks:Tasks", "work")))


def ok(request):
    from django.http import HttpResponse

    return HttpResponse("ok")


def kills_itself(request):
    os.kill(os.getpid(), signal.SIGKILL)


def _urls():
    from django.urls import path

    return [
        path("asks-dirty-worker/", asks),
        path("kills-itself/", kills_itself),
        path("ok/", ok),
    ]


urlpatterns = _urls()


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
