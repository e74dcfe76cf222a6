"""Our reports reach Gunicorn's error log, and never wait for whoever reads it."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import threading
from pathlib import Path

import pytest

from otel_canonical import internal_errors
from otel_canonical.patching import patch
from otel_canonical.process import descriptors, error_log
from tests.support.descriptors import KINDS, connected, read_now, soon

FORMAT = "[%(levelname)s] %(message)s"


@pytest.fixture
def gunicorns() -> logging.Logger:
    """A logger like Gunicorn's, unknown to `logging`, so that pytest adds no handler."""
    return logging.Logger("gunicorn.error")  # noqa: LOG001


@pytest.fixture
def logger(gunicorns: logging.Logger) -> logging.Logger:
    """A child of it."""
    logger = logging.Logger("gunicorn.error.otel_canonical")  # noqa: LOG001
    logger.parent = gunicorns
    return logger


def handler_to(writer: int) -> logging.StreamHandler[io.TextIOWrapper]:
    """Return a handler as Gunicorn makes it."""
    stream = io.TextIOWrapper(io.FileIO(writer, "w", closefd=False), encoding="utf-8")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT))
    return handler


@pytest.mark.parametrize("kind", [*KINDS, "file"])
def test_report_is_what_logging_would_write(
    kind: str, gunicorns: logging.Logger, logger: logging.Logger, tmp_path: Path
) -> None:
    """Format, more than one line, and characters that the stream can't encode."""
    if kind == "file":
        handler: logging.Handler = logging.FileHandler(tmp_path / "log")
        handler.setFormatter(logging.Formatter(FORMAT))
        gunicorns.addHandler(handler)
        assert error_log.log(logger, logging.ERROR, "failed while %s", "x \u00e4")
        assert (tmp_path / "log").read_text() == "[ERROR] failed while x \u00e4\n"
        handler.close()
        return
    with connected(kind, tmp_path) as (reader, writer):
        gunicorns.addHandler(handler_to(writer))
        assert error_log.log(
            logger, logging.ERROR, "failed while %s%s", "x", "\nValueError: oh \udc80"
        )
        assert read_now(reader) == b"[ERROR] failed while x\nValueError: oh \\udc80\n"


@pytest.mark.parametrize("kind", KINDS)
def test_report_does_not_wait_for_a_reader_that_hangs(
    kind: str, gunicorns: logging.Logger, logger: logging.Logger, tmp_path: Path
) -> None:
    """Nor for a thread of the application's that does, inside the same handler."""
    with connected(kind, tmp_path) as (reader, writer):
        handler = handler_to(writer)
        gunicorns.addHandler(handler)
        held = threading.Event()
        let_go = threading.Event()

        def hold() -> None:
            with handler.lock:  # type: ignore[union-attr]
                held.set()
                let_go.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        try:
            while soon(lambda: error_log.log(logger, logging.ERROR, "x" * 900)):
                pass
        finally:
            let_go.set()
            holder.join()
        assert os.get_blocking(writer)
        received = read_now(reader)
        assert error_log.log(logger, logging.ERROR, "again")
        assert read_now(reader).endswith(b"[ERROR] again\n")
    assert received.startswith(b"[ERROR] " + b"x" * 900 + b"\n")


def test_levels_and_filters_are_heeded(
    gunicorns: logging.Logger, logger: logging.Logger, tmp_path: Path
) -> None:
    """Of the logger and of the handler; a filter may put another record in the place of one."""
    with connected("pipe", tmp_path) as (reader, writer):
        handler = handler_to(writer)
        gunicorns.addHandler(handler)
        quiet = logging.Logger("quiet", logging.ERROR)  # noqa: LOG001
        quiet.parent = gunicorns
        assert error_log.log(quiet, logging.WARNING, "below the logger's level")
        handler.setLevel(logging.ERROR)
        assert error_log.log(logger, logging.WARNING, "below the handler's level")
        handler.setLevel(logging.NOTSET)
        for filterer in (logger, handler):
            refuse = lambda record: "refused" not in record.msg  # noqa: E731
            filterer.addFilter(refuse)
            assert error_log.log(logger, logging.WARNING, "refused")
            filterer.removeFilter(refuse)
        assert error_log.log(logger, logging.WARNING, "said")
        assert read_now(reader) == b"[WARNING] said\n"


def test_handlers_that_do_more_get_the_record(
    gunicorns: logging.Logger, logger: logging.Logger
) -> None:
    """Sentry's, a queue, syslog, a formatter that fails: their own business."""
    records: list[logging.LogRecord] = []

    class Keep(logging.StreamHandler[io.StringIO]):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    text = io.StringIO()
    gunicorns.addHandler(Keep())
    gunicorns.addHandler(logging.StreamHandler(text))
    assert error_log.log(logger, logging.WARNING, "to %s", "all")
    assert [record.getMessage() for record in records] == ["to all"]
    assert text.getvalue() == "to all\n"


def test_report_is_tried_again_when_nothing_took_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logger: logging.Logger
) -> None:
    """When the reader is back the operator learns what was lost, and not a minute later."""
    now = [1000.0]
    monkeypatch.setattr(internal_errors.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(internal_errors, "logger", logger)
    with connected("pipe", tmp_path) as (reader, writer):
        handler = handler_to(writer)
        logger.addHandler(handler)
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"f" * 4096)
        os.set_blocking(writer, True)
        for _ in range(3):
            internal_errors.report("trying again")
            internal_errors.warn("trying again, too")
            now[0] += 0.5
        read_now(reader)
        now[0] += internal_errors.RETRY_INTERVAL_S
        internal_errors.report("trying again")
        internal_errors.warn("trying again, too")
        said = read_now(reader).decode().splitlines()
        internal_errors.report("trying again")
        assert read_now(reader) == b""
        logger.removeHandler(handler)
    assert said == [
        "[ERROR] otel-canonical failed while trying again; the request was not affected "
        "(3 more since the last report)",
        "[WARNING] otel-canonical: trying again, too (3 more since the last report)",
    ]


def test_messages_of_gunicorn_are_given_up_where_our_lines_fill_their_pipe(
    gunicorns: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first one waits; when there is room again all are written."""
    waits: list[int] = []

    def has_room(fd: int, wait_ms: int) -> bool:
        waits.append(wait_ms)
        return False

    monkeypatch.setattr(descriptors, "has_room", has_room)
    with connected("pipe", tmp_path) as (reader, writer):
        handler = handler_to(writer)
        gunicorns.addHandler(handler)
        assert not error_log.writes_to(handler, lambda fd: False)
        assert error_log.writes_to(handler, lambda fd: fd == writer)
        patch(handler, "emit", functools.partial(error_log.unblocked, handler))
        for _ in range(2):
            for _ in range(100):
                soon(lambda: gunicorns.error("x" * 900))
            received = read_now(reader)
            assert len(received.splitlines()) < 100
            assert set(received.splitlines()) == {b"[ERROR] " + b"x" * 900}
            gunicorns.error("Handling signal: term")
            assert read_now(reader) == b"[ERROR] Handling signal: term\n"
        # What `--capture-output` puts there is a file, and nothing is given up in one.
        with (tmp_path / "captured").open("wb") as file:
            os.dup2(file.fileno(), writer)
        gunicorns.error("captured")
        assert (tmp_path / "captured").read_text() == "[ERROR] captured\n"
    assert waits == [error_log.PATIENCE_MS] * 2
