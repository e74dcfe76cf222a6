"""The site behind the ancestor's example lines, with WhiteNoise as WSGI middleware around Django."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from whitenoise import WhiteNoise

import otel_canonical

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.path.join(os.environ["SITE_DIRECTORY"], "db"),
    }
}


class MyError(Exception):
    pass


def func_that_throws():
    raise MyError("Oh noes!")


def db_queries(request):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        for n in range(2):
            cursor.execute("SELECT %s + 1", [n])
    return HttpResponse("queried")


def view_exception(request):
    otel_canonical.set("key", "val")
    func_that_throws()


@otel_canonical.partial_failure(return_value="degraded")
def will_throw():
    func_that_throws()


def partial_failure(request):
    return HttpResponse(will_throw())


def timed(request):
    with otel_canonical.timer("custom"):
        pass
    return HttpResponse("timed")


urlpatterns = [
    path("db_queries/", db_queries),
    path("view_exception/", view_exception),
    path("partial_failure/", partial_failure),
    path("timed/", timed),
]

application = WhiteNoise(
    get_wsgi_application(), root=os.environ["SITE_STATIC"], prefix="static/", autorefresh=True
)
