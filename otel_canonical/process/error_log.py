"""Hands reports to Gunicorn's error log without waiting for whoever reads that.

Lives in every process. Standard error is often the pipe that our lines go to. When its reader hangs, a
report of the lines that are lost must not wait for that reader: bare Gunicorn would have said nothing.
Nor must Gunicorn's own "Handling signal: term": without our lines there would be room for it.
"""

from __future__ import annotations

import io
import logging
import os
import stat
from collections.abc import Callable

from otel_canonical.process import descriptors

#: How long Gunicorn's own messages wait where our lines may have filled the pipe.
PATIENCE_MS = 200


def log(logger: logging.Logger, level: int, text: str, *args: object) -> bool:
    """Log as `logger.log(level, text, *args)` does, but never wait for a reader.

    Returns:
        Whether a handler took it, or none was meant to.
    """
    if not logger.isEnabledFor(level):
        return True
    record = logger.makeRecord(logger.name, level, __file__, 0, text, args, None, "log")
    kept = _passed(logger, record)
    if kept is None:
        return True
    taken = [_hand_over(handler, kept) for handler in _handlers_of(logger, level)]
    return any(taken) or not taken


def _passed(filterer: logging.Filterer, record: logging.LogRecord) -> logging.LogRecord | None:
    """Return the record as the filters let it pass, None if they don't."""
    passed: object = filterer.filter(record)
    if isinstance(passed, logging.LogRecord):  # since Python 3.12
        return passed
    return record if passed else None


def _handlers_of(logger: logging.Logger, level: int) -> list[logging.Handler]:
    found: list[logging.Handler] = []
    current: logging.Logger | None = logger
    while current is not None:
        found += current.handlers
        current = current.parent if current.propagate else None
    if not found and logging.lastResort is not None:
        found = [logging.lastResort]
    return [handler for handler in found if level >= handler.level]


def _hand_over(handler: logging.Handler, record: logging.LogRecord) -> bool:
    stream = _stream_of(handler)
    if stream is None:
        handler.handle(record)
        return True
    kept = _passed(handler, record)
    # Without the handler's lock: another thread may hold it while it waits for the reader.
    return kept is None or _write(handler, stream, kept, 0)


def unblocked(
    handler: logging.Handler, emit: Callable[[logging.LogRecord], None]
) -> Callable[[logging.LogRecord], None]:
    """Return an `emit` of a handler that gives records up when its reader hangs.

    Only the first one waits, for `PATIENCE_MS`.
    """
    is_full = False

    def emit_unblocked(record: logging.LogRecord) -> None:
        nonlocal is_full
        stream = _stream_of(handler)
        if stream is None:
            emit(record)
        else:
            is_full = not _write(handler, stream, record, 0 if is_full else PATIENCE_MS)

    return emit_unblocked


def writes_to(handler: logging.Handler, is_same_file: Callable[[int], bool]) -> bool:
    """Return whether a handler does nothing but write, may have to wait, and writes to a certain file."""
    stream = _stream_of(handler)
    return stream is not None and is_same_file(stream.fileno())


def _write(
    handler: logging.Handler, stream: io.TextIOWrapper, record: logging.LogRecord, wait_ms: int
) -> bool:
    text = handler.format(record) + getattr(handler, "terminator", "\n")
    encoded = text.encode(stream.encoding or "utf-8", "backslashreplace")
    return descriptors.write_text(stream.fileno(), encoded, wait_ms)


def _stream_of(handler: logging.Handler) -> io.TextIOWrapper | None:
    """Return the stream that a handler writes to, if it does nothing else and may have to wait."""
    if type(handler).emit not in (logging.StreamHandler.emit, logging.FileHandler.emit):
        return None
    stream = getattr(handler, "stream", None)
    try:
        if isinstance(stream, io.TextIOWrapper):
            return None if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else stream
    except (OSError, ValueError):  # closed, or there is no descriptor behind it
        pass
    return None
