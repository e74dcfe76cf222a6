"""The app's own log records among OpenTelemetry's, each in the trace of the request that made it.

Lives in the worker, if logs are exported. Not a handler: `LOGGING` of Django's settings removes the
root logger's handlers, a logger that doesn't propagate never reaches them, and one handler more takes
`logging`'s last resort away from an app that has configured none. What is exported is what a logger
lets pass, whoever handles it.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry._logs import Logger, get_logger
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.instrumentation.log_utils import std_to_otel

from otel_canonical.event.fields import STACK_ATTRIBUTE, FieldValue, attribute_of, field_value
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.internal_errors import guarded_call
from otel_canonical.patching import patch
from otel_canonical.per_thread import PerThread
from otel_canonical.request.log_ids import NO_ID

#: Loggers of which nothing is exported, nor of those below. What an exporter complains about would
#: have to be exported, too, and Gunicorn's access log says what the event says.
SILENT = ("opentelemetry", "gunicorn.access", "gunicorn.error.otel_canonical")

#: What every record has; anything else on it was put there with `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "req_id", "trace_id", "span_id")
}

#: OpenTelemetry's names where they aren't Python's.
_SEVERITIES = {"WARNING": "WARN", "CRITICAL": "FATAL"}

CallHandlers = Callable[[logging.Logger, logging.LogRecord], None]

_inside_export: PerThread[bool] = PerThread()


class AppLogs:
    """Sends log records through OpenTelemetry's Logs API.

    Args:
        redaction: takes secrets out of messages, stacks and what was given as `extra`.
        with_request_id: whether records say which request they are of.
    """

    def __init__(self, redaction: RedactionPolicy, *, with_request_id: bool = True) -> None:
        self._redaction = redaction
        self._with_request_id = with_request_id
        self._loggers: dict[str, Logger | None] = {}

    def install(self) -> None:
        """Patch `logging.Logger.callHandlers`, where what has passed all filters goes. Twice is once."""
        patch(logging.Logger, "callHandlers", self._exporting)

    def _exporting(self, call_handlers: CallHandlers) -> CallHandlers:
        export = guarded_call("exporting a log record")(self.export)

        def call_handlers_and_export(self: logging.Logger, record: logging.LogRecord) -> None:
            call_handlers(self, record)
            export(record)

        return call_handlers_and_export

    def export(self, record: logging.LogRecord) -> None:
        """Hand a record to OpenTelemetry, unless it comes from there."""
        logger = self._logger(record.name)
        context = otel_context.get_current()
        if (
            logger is None
            or otel_context.get_value(_SUPPRESS_INSTRUMENTATION_KEY, context)
            or _inside_export.now()
        ):
            return
        outer = _inside_export.enter(True)
        try:
            logger.emit(
                timestamp=int(record.created * 1e9),
                observed_timestamp=time.time_ns(),
                context=context,
                severity_number=std_to_otel(record.levelno),
                severity_text=_SEVERITIES.get(record.levelname, record.levelname),
                body=self._text(record.getMessage()),
                attributes=self._attributes(record),
            )
        finally:
            _inside_export.leave(outer)

    def _logger(self, name: str) -> Logger | None:
        try:
            return self._loggers[name]
        except KeyError:
            is_silent = any(name == silent or name.startswith(silent + ".") for silent in SILENT)
            logger = None if is_silent else get_logger(name)
            self._loggers[name] = logger
            return logger

    def _attributes(self, record: logging.LogRecord) -> dict[str, FieldValue]:
        # `extra` is a mapping of whatever kind: its keys need not be texts.
        said: Mapping[Any, Any] = record.__dict__
        attributes: dict[str, FieldValue] = {
            name: self._redaction.value(name, self._extra(value))
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
            attributes["exception.message"] = self._text(str(field_value(error)))
            attributes["exception.stacktrace"] = self._text(
                "".join(traceback.format_exception(error))
            )
        return attributes

    def _extra(self, value: object) -> FieldValue:
        value = field_value(value)
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        text = self._redaction.text(text)
        # What is no UTF-8 would cost the whole batch.
        return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _is_shown(value: Any) -> bool:
    """Return whether a value is a fact. Django's own loggers put requests and sockets there."""
    if isinstance(value, str | int | float):
        return True
    return value is not None and not hasattr(value, "__dict__") and not hasattr(value, "fileno")
