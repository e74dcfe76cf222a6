"""Exports the app's own log records through OpenTelemetry, each in the trace of its request.

Lives in the worker, if logs are exported. A handler would not do: Django's `LOGGING` removes the root
logger's handlers, a logger with `propagate: False` never reaches them, and an app without handlers would
lose `logging`'s last resort. Every record that passes its logger's level and filters is exported,
whichever handlers it has.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import cast

from opentelemetry import context as otel_context
from opentelemetry.instrumentation.log_utils import std_to_otel
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_canonical.event import bounds
from otel_canonical.event.fields import (
    STACK_ATTRIBUTE,
    AttributeValue,
    FieldValue,
    attribute_of,
    field_value,
)
from otel_canonical.event.logfmt import as_text
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.internal_errors import guarded_call
from otel_canonical.otel.sdk_internals import Logger, get_logger
from otel_canonical.patching import patch
from otel_canonical.per_thread import PerThread
from otel_canonical.request.log_ids import NO_ID
from otel_canonical.stacks import errors

#: Loggers that are not exported, nor those below them. Exporting an exporter's complaints would cause
#: more of them, and Gunicorn's access log repeats what the event says.
SILENT = ("opentelemetry", "gunicorn.access", "gunicorn.error.otel_canonical")

#: Attributes that every record has; any other was set by `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "req_id", "trace_id", "span_id")
}

#: OpenTelemetry's names of levels where they differ from Python's.
_SEVERITIES = {"WARNING": "WARN", "CRITICAL": "FATAL"}

CallHandlers = Callable[[logging.Logger, logging.LogRecord], None]

_exporting: PerThread[bool] = PerThread()


class AppLogs:
    """Sends log records through OpenTelemetry's Logs API.

    Args:
        redaction: removes secrets from messages, stacks and `extra`.
        with_request_id: whether records carry the id of their request.
    """

    def __init__(self, redaction: RedactionPolicy, *, with_request_id: bool = True) -> None:
        self._redaction = redaction
        self._with_request_id = with_request_id
        self._loggers: dict[str, Logger | None] = {}

    def install(self) -> None:
        """Patch `logging.Logger.callHandlers`, which gets every record that passed the filters. Idempotent."""
        patch(logging.Logger, "callHandlers", self._exporting)

    def _exporting(self, call_handlers: CallHandlers) -> CallHandlers:
        export = guarded_call("exporting a log record")(self.export)

        def call_handlers_and_export(self: logging.Logger, record: logging.LogRecord) -> None:
            call_handlers(self, record)
            export(record)

        return call_handlers_and_export

    def export(self, record: logging.LogRecord) -> None:
        """Emit a record, unless OpenTelemetry or another export in this thread has made it."""
        logger = self._logger(record.name)
        if logger is None or not is_instrumentation_enabled() or _exporting.now():
            return
        outer = _exporting.enter(True)
        try:
            logger.emit(
                timestamp=int(record.created * 1e9),
                observed_timestamp=time.time_ns(),
                context=otel_context.get_current(),
                severity_number=std_to_otel(record.levelno),
                severity_text=_SEVERITIES.get(record.levelname, record.levelname),
                body=self._text(_message_of(record)),
                attributes=self._attributes(record),
            )
        finally:
            _exporting.leave(outer)

    def _logger(self, name: str) -> Logger | None:
        try:
            return self._loggers[name]
        except KeyError:
            is_silent = any(name == silent or name.startswith(silent + ".") for silent in SILENT)
            logger = None if is_silent else get_logger(name)
            self._loggers[name] = logger
            return logger

    def _attributes(self, record: logging.LogRecord) -> dict[str, AttributeValue]:
        # The keys of `extra` need not be texts.
        said = cast("Mapping[object, object]", record.__dict__)
        attributes: dict[str, AttributeValue] = {
            name: _valid_value(self._redaction.value(name, field_value(value)))
            for name, value in said.items()
            if name not in _STANDARD and isinstance(name, str) and _is_shown(value)
        }
        attributes["code.file.path"] = record.pathname
        attributes["code.line.number"] = record.lineno
        if record.funcName:
            attributes["code.function.name"] = record.funcName
        if self._with_request_id:
            request_id = said.get("req_id", NO_ID)
            if request_id != NO_ID:
                attributes[attribute_of("req_id")] = str(request_id)
        if record.stack_info:
            attributes[STACK_ATTRIBUTE] = self._text(record.stack_info)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            attributes["exception.type"] = type(error).__name__
            attributes["exception.message"] = self._text(as_text(error))
            attributes["exception.stacktrace"] = _valid(
                errors.stack_of(error, self._redaction.text)
            )
        return bounds.fit(attributes, _importance_of(attributes), "canonical.truncated")

    def _text(self, text: str) -> str:
        return _valid(self._redaction.text(text))


def _valid(text: str) -> str:
    """Return a text that is valid UTF-8: another one would make the exporter repair the batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _valid_value(value: FieldValue) -> FieldValue:
    return _valid(value) if isinstance(value, str) else value


def _importance_of(attributes: Mapping[str, AttributeValue]) -> dict[str, int]:
    """Return what to shorten first: the app's own, then stacks, then what names the exception."""
    ours = {"exception.stacktrace": 1, STACK_ATTRIBUTE: 1, "exception.message": 2}
    return {
        name: ours.get(name, 3 if name.startswith(("code.", "exception.")) else 0)
        for name in attributes
    }


def _message_of(record: logging.LogRecord) -> str:
    """Return the message; unformatted if its arguments don't fit, which `logging` itself reports."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  # the app's arguments may raise anything
        return as_text(record.msg)


def _is_shown(value: object) -> bool:
    """Return whether a value of `extra` is exported. Django's loggers set requests and sockets there."""
    if isinstance(value, str | int | float):
        return True
    return value is not None and not hasattr(value, "__dict__") and not hasattr(value, "fileno")
