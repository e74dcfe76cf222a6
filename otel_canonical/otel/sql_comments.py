"""Which request a query is of, as a comment in the SQL that the database gets: an opt-in.

Lives where the app is loaded. The comment is that of OpenTelemetry's Django instrumentation
(sqlcommenter: controller, route, `traceparent`), under its settings (`SQLCOMMENTER_WITH_ROUTE`...). Its
middleware covers neither streamed bodies nor what runs before the view; our wrapper around queries
does. Counted is the text without it, and spans have the text without it: with a `traceparent` in it
no two texts would be the same.
"""

from __future__ import annotations

import functools
import importlib
import weakref
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import Span
from opentelemetry.util.types import AttributeValue

from otel_canonical.patching import shadow
from otel_canonical.request.scope import RequestScope

UPSTREAM = "opentelemetry.instrumentation.django.middleware.sqlcommenter_middleware"

TEXT_ATTRIBUTES = frozenset(("db.query.text", "db.statement"))

#: Whether the operator wants comments; set in the worker.
is_wanted = False


def want(wanted: bool) -> None:
    """Write comments from now on, or none."""
    global is_wanted
    is_wanted = wanted


def commenting(execute: Callable[..., Any], scope: RequestScope) -> Callable[..., Any]:
    """Return `execute`, a step of Django's `execute_wrappers`, with a comment on what it executes."""
    if scope.django_request is None:
        return execute
    wrapper = _upstream()._QueryWrapper(scope.django_request)

    def execute_with_comment(sql: Any, params: Any, many: bool, context: Any) -> Any:
        if many:
            # MySQL's driver makes one statement of many rows only if nothing follows them.
            return execute(sql, params, many, context)
        return wrapper(execute, sql, params, many, context)

    return execute_with_comment


def keep_off(span: Span) -> None:
    """Keep the comment out of the text that the driver's instrumentation is going to set on a span."""
    itself = weakref.ref(span)  # a strong one would make a circle
    set_attributes = type(span).set_attributes

    def set_attributes_uncommented(attributes: dict[str, AttributeValue]) -> None:
        owner = itself()
        if owner is None:
            return
        set_attributes(
            owner,
            {
                name: _without_comment(value)
                if name in TEXT_ATTRIBUTES and isinstance(value, str)
                else value
                for name, value in attributes.items()
            },
        )

    shadow(span, "set_attributes", set_attributes_uncommented)


def _without_comment(text: str) -> str:
    end = ";" if text.endswith(";") else ""
    if not text.endswith("*/" + end):
        return text
    # Ours is the last one; what it holds is quoted as in a URL, so it is one comment whatever is in it.
    return text.rpartition(" /*")[0] + end


@functools.cache
def _upstream() -> Any:
    return importlib.import_module(UPSTREAM)
