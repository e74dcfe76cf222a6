"""The site `stuck` as an ASGI application."""

from __future__ import annotations

import stuck  # noqa: F401  # it names itself as the settings
from django.core.asgi import get_asgi_application

application = get_asgi_application()
