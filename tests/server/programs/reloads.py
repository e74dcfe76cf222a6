"""A Django site in one file whose settings change between two imports.

Its setting VALUE is what the file VALUE_FILE holds at import; the process that imports it adds its id
to the file IMPORTED_BY.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings
from django.http import HttpResponse
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["localhost"]
ROOT_URLCONF = __name__
VALUE = Path(os.environ["VALUE_FILE"]).read_text()

with open(os.environ["IMPORTED_BY"], "a") as log:
    log.write(f"{os.getpid()}\n")


def value(request):
    return HttpResponse(settings.VALUE)


urlpatterns = [path("value/", value)]


def _application():
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


application = _application()
