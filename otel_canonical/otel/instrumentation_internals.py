"""The private names of OpenTelemetry's instrumentations that we use, each behind one function.

The same rules as in `sdk_internals`: each function links to the upstream code and says what is lost when
upstream renames it; that is reported once, and requests and their lines go on. Nothing here imports
Django or a driver before the app has.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_canonical.otel.sdk_internals import module, private
from otel_canonical.patching import patch

#: A step of Django's `execute_wrappers`: called with the next step and what Django executes.
QueryWrapper = Callable[..., Any]

DJANGO_MIDDLEWARE = "opentelemetry.instrumentation.django.middleware.otel_middleware"
SQL_COMMENTER = "opentelemetry.instrumentation.django.middleware.sqlcommenter_middleware"


def django_middleware() -> Any:
    """Return the class of upstream's middleware for Django.

    If it is gone, captured headers, former attribute names and trace headers on responses are missing;
    the root span is ours either way.
    https://github.com/open-telemetry/opentelemetry-python-contrib/blob/main/instrumentation/opentelemetry-instrumentation-django/src/opentelemetry/instrumentation/django/middleware/otel_middleware.py

    Raises:
        AttributeError: it is gone; the caller's module can't be loaded then, which is reported.
    """
    return importlib.import_module(DJANGO_MIDDLEWARE)._DjangoMiddleware


def has_begun(middleware: object, meta: Mapping[str, object]) -> bool:
    """Return whether upstream's middleware has begun with a request, by the request's `META`."""
    key = private(middleware, "_environ_activation_key", "following Django's instrumentation")
    return key in meta


def forget_exception(middleware: object, meta: MutableMapping[str, Any]) -> None:
    """Remove the exception that upstream's middleware would record on the span."""
    key = private(middleware, "_environ_exception_key", "following Django's instrumentation")
    meta.pop(key, None)


def abandon_request(middleware: object, meta: MutableMapping[str, Any]) -> None:
    """Undo what upstream's middleware has begun for a request whose response it will never see."""
    use = "undoing what Django's instrumentation has begun"
    active = meta.pop(private(middleware, "_environ_active_request_attr_key", use), None)
    counter = private(middleware, "_active_request_counter", use)
    if active is not None and counter is not None:
        counter.add(-1, active)
    activation = meta.pop(private(middleware, "_environ_activation_key", use), None)
    if activation is not None:
        activation.__exit__(None, None, None)
    token = meta.pop(private(middleware, "_environ_token", use), None)
    if token is not None:
        otel_context.detach(token)


def query_commenter(request: object) -> QueryWrapper | None:
    """Return upstream's `execute_wrapper` that appends a comment; without it queries have none.

    https://github.com/open-telemetry/opentelemetry-python-contrib/blob/main/instrumentation/opentelemetry-instrumentation-django/src/opentelemetry/instrumentation/django/middleware/sqlcommenter_middleware.py
    """
    wrapper = _query_wrapper()
    return wrapper(request) if wrapper is not None else None


@functools.cache
def _query_wrapper() -> Callable[[object], QueryWrapper] | None:
    use = "writing comments into SQL"
    commenter = module(SQL_COMMENTER, use)
    wrapper: Callable[[object], QueryWrapper] | None
    wrapper = private(commenter, "_QueryWrapper", use) if commenter is not None else None
    return wrapper


def replace_tracer(integration: object, replace: Callable[[trace.Tracer], trace.Tracer]) -> None:
    """Have one connection's spans made by another tracer; else its queries are counted twice.

    https://github.com/open-telemetry/opentelemetry-python-contrib/blob/main/instrumentation/opentelemetry-instrumentation-dbapi/src/opentelemetry/instrumentation/dbapi/__init__.py

    Args:
        integration: a `DatabaseApiIntegration`; there is one for each connection.
        replace: gets the integration's tracer and returns another one.
    """
    use = "leaving Django's queries to the driver's instrumentation"
    tracer = private(integration, "_tracer", use)
    if tracer is not None:
        patch(integration, "_tracer", replace)
