"""The ids of a request on every log record that is made while it runs, for any formatter to show.

Lives wherever Gunicorn does, installed before the app is loaded. Not a record factory: what a factory
has set, `extra` may not set again (`logging` raises KeyError), and an app that says `req_id` itself
would fail. What the app says about itself stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from otel_canonical.patching import patch
from otel_canonical.request.scope import open_scope

#: Shown outside a request, so that one format serves for both.
NO_ID = "-"

Handle = Callable[[logging.Logger, logging.LogRecord], None]


def install() -> None:
    """Patch `logging.Logger.handle`, which the records of all loggers pass. Twice is once."""
    patch(logging.Logger, "handle", _stamping)


def _stamping(handle: Handle) -> Handle:
    def handle_with_ids(self: logging.Logger, record: logging.LogRecord) -> None:
        stamp(record)
        handle(self, record)

    return handle_with_ids


def stamp(record: logging.LogRecord) -> None:
    """Set `req_id`, `trace_id` and `span_id` as the request's line has them, `-` outside one."""
    said = record.__dict__
    if "req_id" in said and "trace_id" in said and "span_id" in said:
        return
    scope = open_scope()
    if scope is None or scope.root is None:
        ids = (NO_ID, NO_ID, NO_ID)
    else:
        ids = (scope.request_id, scope.root.trace_id, scope.root.span_id)
    said.setdefault("req_id", ids[0])
    said.setdefault("trace_id", ids[1])
    said.setdefault("span_id", ids[2])


class RequestIds(logging.Filter):
    """The same for processes without us: a filter, to be named in Django's `LOGGING`.

    A format with `%(req_id)s` fails in `manage.py` and in tests, where nobody sets it. A handler with
    this filter shows `-` there, and the ids under Gunicorn.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set what is missing on the record and let it pass."""
        stamp(record)
        return True
