"""Adapters to the servers that run requests: Gunicorn's workers, ASGI servers, gevent's pywsgi."""

from __future__ import annotations
