"""Keeps the instrumentations of database drivers off the connections that Django opens.

Lives in the worker. All of them stand on `opentelemetry-instrumentation-dbapi`: its integration wraps each
connection when the driver opens it. Django's are handed through as they are, because their queries are
counted and get their spans from `django.queries`. Connections that the app opens by itself are left to
the instrumentation. Uninstrumenting a connection afterwards would leave some drivers' broken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from enum import Enum
from typing import Any

from otel_canonical.otel import instrumentation_internals
from otel_canonical.otel.uncounted import UncountedTracer
from otel_canonical.patching import patch

DBAPI = "opentelemetry.instrumentation.dbapi"

Connect = Callable[..., Any]


class Treatment(Enum):
    """What happens to a connection of Django's where its driver is instrumented."""

    #: Nothing: this process makes no spans.
    KEEP = "keep"
    #: The connection isn't wrapped; spans are ours.
    BYPASS = "bypass"
    #: It is wrapped; its spans are not counted, because Django's queries are.
    UNCOUNTED = "uncounted"


#: That Django is opening a connection, in this thread or context.
_is_django: ContextVar[bool] = ContextVar("otel_canonical_django_connects", default=False)

_treatment = [Treatment.KEEP]

#: How many modules were imported when integrations were last looked for.
_looked_at = [0]

#: The integrations that are patched.
_watched: set[type] = set()

#: Filled when the first connection was bypassed.
_bypassed: list[bool] = []


def treat(treatment: Treatment) -> None:
    """Choose what happens to Django's connections from now on."""
    _treatment[0] = treatment


def was_any_bypassed() -> bool:
    """Return whether a driver's instrumentation would have made spans of Django's queries."""
    return bool(_bypassed)


def begin_connecting() -> Token[bool]:
    """Say that a connection is opened by Django from now on; the token is for `end_connecting`."""
    # Integrations come with modules: nothing has to be looked for while no more are imported.
    modules = len(sys.modules)
    if _treatment[0] is not Treatment.KEEP and _looked_at[0] != modules:
        if DBAPI in sys.modules:
            _watch_integrations(sys.modules[DBAPI])
        # Last: another thread that finds it so opens its connection at once. Patching twice changes nothing.
        _looked_at[0] = modules
    return _is_django.set(True)


def end_connecting(token: Token[bool]) -> None:
    """Go back to before `begin_connecting`."""
    _is_django.reset(token)


def watch_pool(pool: Any) -> None:
    """Have a pool of psycopg's open its connections as Django's, in whichever thread.

    Args:
        pool: a `psycopg_pool.ConnectionPool` that wasn't opened yet.
    """
    patch(pool, "connection_class", _connecting_for_django)


def _connecting_for_django(connection_class: Any) -> Any:
    class DjangoConnection(connection_class):  # type: ignore[misc]
        @classmethod
        def connect(cls, *args: Any, **kwargs: Any) -> Any:
            token = begin_connecting()
            try:
                return super().connect(*args, **kwargs)
            finally:
                end_connecting(token)

    DjangoConnection.__name__ = connection_class.__name__
    DjangoConnection.__qualname__ = connection_class.__qualname__
    return DjangoConnection


def _watch_integrations(dbapi: Any) -> None:
    """Patch the integrations that exist by now: an app may instrument its driver late."""
    classes = [dbapi.DatabaseApiIntegration]
    for known in classes:
        if known not in _watched:
            if "__init__" in vars(known):
                patch(known, "__init__", _unprepared)
            if "wrapped_connection" in vars(known):
                patch(known, "wrapped_connection", _bypassing)
            _watched.add(known)
        classes += known.__subclasses__()


def _unprepared(init: Callable[..., None]) -> Callable[..., None]:
    # An integration is made for each connection, with a tracer, a meter and two histograms.
    def init_unless_djangos(self: Any, *args: Any, **kwargs: Any) -> None:
        if not (_is_django.get() and _treatment[0] is Treatment.BYPASS):
            init(self, *args, **kwargs)

    return init_unless_djangos


def _bypassing(wrapped_connection: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped_unless_djangos(
        self: Any, connect_method: Connect, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not _is_django.get():
            return wrapped_connection(self, connect_method, args, kwargs)
        if _treatment[0] is Treatment.BYPASS:
            if not _bypassed:
                _bypassed.append(True)
            return connect_method(*args, **kwargs)
        instrumentation_internals.replace_tracer(self, UncountedTracer)
        return wrapped_connection(self, connect_method, args, kwargs)

    return wrapped_unless_djangos
