"""The ASGI way in, as an ASGI worker finds it at `demo_shop.asgi:application`."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_shop.settings")

application = get_asgi_application()
