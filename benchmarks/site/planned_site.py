"""A site on PostgreSQL whose queries are all slow, and no two alike: each is one whose plan is wanted."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for a benchmark"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = __name__
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("SITE_POSTGRES", ""),
        "USER": "postgres",
        "NAME": "postgres",
        "CONN_MAX_AGE": None,
    }
}


def counts(request: HttpRequest, number: int) -> HttpResponse:
    """Count pairs of rows; its number makes the text another one."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) AS n{number} FROM pg_class a, pg_class b WHERE a.oid < b.oid"
        )
        return HttpResponse(str(cursor.fetchone()[0]))


urlpatterns = [path("counts/<int:number>/", counts)]
application = get_wsgi_application()
