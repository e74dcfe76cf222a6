"""`databases.py` with a probe of its own around psycopg: what its calls take, by the driver's own methods.

It knows nothing of otel-canonical but where to put its sum: `app_probe`.
"""

from __future__ import annotations

import functools
import threading
import time

import psycopg
from databases import *  # noqa: F403  # the settings and the views
from databases import application as inner

import otel_canonical

_spent = threading.local()


def _timing(owner, name):
    original = getattr(owner, name)

    @functools.wraps(original)
    def timed(*args, **kwargs):
        if getattr(_spent, "is_inside", False):
            return original(*args, **kwargs)
        _spent.is_inside = True
        started = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            _spent.seconds = getattr(_spent, "seconds", 0.0) + time.perf_counter() - started
            _spent.is_inside = False

    return timed


for _name in ("execute", "executemany", "fetchone", "fetchmany", "fetchall"):
    for _class in (psycopg.Cursor, psycopg.ServerCursor):
        setattr(_class, _name, _timing(_class, _name))
for _name in ("commit", "rollback"):
    setattr(psycopg.Connection, _name, _timing(psycopg.Connection, _name))
psycopg.Connection.connect = _timing(psycopg.Connection, "connect")
psycopg.connect = psycopg.Connection.connect


def application(environ, start_response):
    """Serve a request and note what the driver took."""
    _spent.seconds = 0.0
    response = inner(environ, start_response)
    otel_canonical.set("probe", _spent.seconds)
    return response
