"""The ids of a request on every log record that is made while it runs; warnings and errors are counted.

Installed wherever Gunicorn runs, before the app is loaded. Not as a record factory: `logging` raises
KeyError when `extra` sets an attribute that a factory has set, so an app that passes `req_id` itself
would fail. Ids that the app has set are kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from otel_canonical.patching import patch
from otel_canonical.request.scope import current_scope, open_scope

#: Shown outside a request, so that one format serves for both.
NO_ID = "-"

#: What these say isn't the app's own: their names' first parts.
NOT_OF_APP = frozenset(("otel_canonical", "opentelemetry", "gunicorn"))

#: Django's, which say once more that a status is 4xx or 5xx.
STATUS_LOGGERS = frozenset(("django.request", "django.server"))

Handle = Callable[[logging.Logger, logging.LogRecord], None]


def install() -> None:
    """Patch `logging.Logger.handle`, through which the records of all loggers pass. Twice is once."""
    patch(logging.Logger, "handle", _stamping)


def _stamping(handle: Handle) -> Handle:
    def handle_with_ids(self: logging.Logger, record: logging.LogRecord) -> None:
        stamp(record)
        if record.levelno >= logging.WARNING:
            _count(record)
        handle(self, record)

    return handle_with_ids


def _count(record: logging.LogRecord) -> None:
    """Count a record of the app's that says that something is wrong."""
    scope = open_scope()
    if (
        scope is None
        or record.name.partition(".")[0] in NOT_OF_APP
        or record.name in STATUS_LOGGERS
    ):
        return
    if record.levelno >= logging.ERROR:
        scope.log_errors += 1
    else:
        scope.log_warnings += 1


def stamp(record: logging.LogRecord) -> None:
    """Set `req_id`, `trace_id` and `span_id` as the request's line has them, `-` for one that it lacks.

    Background tasks of an ASGI application run behind their request's line, under its ids.
    """
    attributes = record.__dict__
    if "req_id" in attributes and "trace_id" in attributes and "span_id" in attributes:
        return
    scope = current_scope.get()
    if scope is not None and not (scope.is_open or scope.is_left_later):
        scope = None
    if scope is None:
        ids = (NO_ID, NO_ID, NO_ID)
    elif scope.root.is_named:
        ids = (scope.request_id, scope.root.trace_id, scope.root.span_id)
    else:
        ids = (scope.request_id, NO_ID, NO_ID)
    attributes.setdefault("req_id", ids[0])
    attributes.setdefault("trace_id", ids[1])
    attributes.setdefault("span_id", ids[2])


class RequestIds(logging.Filter):
    """A logging filter that sets the same ids; name it in Django's `LOGGING`.

    A format with `%(req_id)s` fails in `manage.py` and in tests, where records have no such attribute.
    A handler with this filter shows `-` there, and the ids under Gunicorn.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set what is missing on the record and let it pass."""
        stamp(record)
        return True
