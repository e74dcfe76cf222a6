"""The WSGI way in, as `gunicorn demo_shop.wsgi` finds it."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_shop.settings")

application = get_wsgi_application()
