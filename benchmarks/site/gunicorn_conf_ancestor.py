"""Gunicorn's configuration for the row `ancestor`; reached by `-c`, as its README asks."""

from __future__ import annotations

from gunicorn_django_canonical_logs.glogging import Logger
from gunicorn_django_canonical_logs.gunicorn_hooks import *  # noqa: F403  how it hands over hooks

accesslog = "-"
logger_class = Logger
