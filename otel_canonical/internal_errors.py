"""Handling of our own errors: kept out of the app, reported to the operator.

Used in every process. Only `Exception` is caught: Gunicorn stops a worker by raising SystemExit from a
signal handler, and swallowing that would keep a dying worker alive. What a signal handler of the app's
raises into our code goes on to the app, see `interruptions`. Messages of exceptions may hold what a client
has sent: they are redacted, cut and escaped like all that is logged.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import ParamSpec, TypeVar

from otel_canonical.process import error_log
from otel_canonical.process.interruptions import is_interruption

P = ParamSpec("P")
R = TypeVar("R")

STRICT_VARIABLE = "OTEL_CANONICAL_STRICT"
REPORT_INTERVAL_S = 60.0
#: After a report that could not be written, because the error log's reader hangs.
RETRY_INTERVAL_S = 1.0
#: The most frames in a report, before the process has a policy for it.
MOST_FRAMES = 20

#: A child of Gunicorn's own error logger, so that reports appear where operators already look.
logger = logging.getLogger("gunicorn.error.otel_canonical")

_last_said_monotonic: dict[str, float] = {}
_held_back: dict[str, int] = {}


#: Return the exception that is being handled, None if there is none. `sys.exc_info` makes a tuple of it.
current_error: Callable[[], BaseException | None] = getattr(
    sys, "exception", lambda: sys.exc_info()[1]
)


def is_strict() -> bool:
    """Return whether errors of ours are raised instead of reported (our own test suite does)."""
    return os.environ.get(STRICT_VARIABLE) == "1"


def report(doing: str, error: BaseException | None = None) -> None:
    """Report what failed in our code, at most once a minute per `doing`.

    Raises:
        BaseException: `error` again, if it was raised into our code and is not ours to catch.
    """
    if error is not None and is_interruption(error):
        raise error
    again = _how_often_held_back(doing)
    if again is not None and not error_log.log(
        logger,
        logging.ERROR,
        "otel-canonical failed while %s; the request was not affected%s%s",
        escaped(doing),
        _and_before(again),
        "" if error is None else f"\n{_policy.describe(error)}",
    ):
        _hold_back(doing, again)


def report_caught(doing: str, error: Exception) -> None:
    """Report an error that was caught with a plain `try`, which is cheaper than `guarded`.

    Raises:
        Exception: the error again, in strict mode, or if it was raised into our code.
    """
    if is_strict():
        raise error
    report(doing, error)


def report_app_code(doing: str, error: BaseException) -> None:
    """Report an error of the app's code that was caught with a plain `try`, see `guarded_app_code`.

    Raises:
        BaseException: the error again, in strict mode, or if the app's code has not raised it by itself.
    """
    if is_strict() or not is_apps_own(error):
        raise error
    report(doing, error)


def tell(what: str) -> None:
    """Warn of something that is not our error. The caller keeps it rare."""
    error_log.log(logger, logging.WARNING, "otel-canonical: %s", _said(what))


def warn(what: str) -> None:
    """Warn of something that is not our error, at most once a minute per `what`."""
    again = _how_often_held_back(what)
    if again is not None and not error_log.log(
        logger, logging.WARNING, "otel-canonical: %s%s", _said(what), _and_before(again)
    ):
        _hold_back(what, again)


def set_policy(clean: Callable[[str], str], describe: Callable[[BaseException], str]) -> None:
    """Set what removes secrets from reports; before that, messages of exceptions are not shown at all.

    Args:
        clean: removes the secrets from a text, and cuts it.
        describe: returns the stack of an exception, its messages cleaned.
    """
    _policy.clean, _policy.describe = clean, describe


def escaped(text: str) -> str:
    """Return a text on one line: what could forge an entry of the log or control a terminal is escaped."""
    return "".join(
        [
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in text
        ]
    )


def _said(what: str) -> str:
    return escaped(_policy.clean(what))


def _frames_only(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__, limit=-MOST_FRAMES))
    return f"Traceback (most recent call last):\n{frames}{type(error).__name__}"


@dataclass(slots=True)
class _Policy:
    """How reports are redacted in this process."""

    clean: Callable[[str], str] = str
    describe: Callable[[BaseException], str] = _frames_only


_policy = _Policy()


def _how_often_held_back(what: str) -> int | None:
    """Return how many reports of `what` were held back since the last one; None holds this one back."""
    now = time.monotonic()
    last = _last_said_monotonic.get(what)
    if last is not None and now - last < REPORT_INTERVAL_S:
        _held_back[what] = _held_back.get(what, 0) + 1
        return None
    _last_said_monotonic[what] = now
    return _held_back.pop(what, 0)


def _hold_back(what: str, again: int) -> None:
    """Note that the error log took no report of `what`: its reader hangs. Try again soon."""
    _last_said_monotonic[what] -= REPORT_INTERVAL_S - RETRY_INTERVAL_S
    _held_back[what] = _held_back.get(what, 0) + again + 1


def _and_before(again: int) -> str:
    return f" ({again} more since the last report)" if again else ""


class guarded:  # noqa: N801  # used like a function, as `contextlib.suppress`
    """`with guarded("reading the route"):` an error inside is reported, not raised."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception) or is_strict() or is_interruption(error):
            return False
        report(self._doing, error)
        return True


#: What code of the app may raise that we call for its facts, beside `Exception`. Others, such as
#: GreenletExit or a `gevent.Timeout`, are raised into it by somebody who waits for them.
ENDINGS_OF_CODE = (SystemExit, KeyboardInterrupt, GeneratorExit)


def is_apps_own(error: BaseException) -> bool:
    """Return whether code of the app that we called has raised `error` by itself.

    SystemExit and its like then cost what that code was asked for, and not the worker. Those that come
    out of a signal handler do end the worker.
    """
    return isinstance(error, (Exception, *ENDINGS_OF_CODE)) and not is_interruption(error)


class guarded_app_code(guarded):  # noqa: N801
    """`guarded` around code of the app's: a SystemExit that it raises is reported, too."""

    __slots__ = ()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None or not is_apps_own(error) or is_strict():
            return False
        report(self._doing, error)
        return True


def guarded_call(doing: str) -> Callable[[Callable[P, R]], Callable[P, R | None]]:
    """Wrap a function that foreign code calls: if it fails, the caller gets None and we report it."""

    def decorate(function: Callable[P, R]) -> Callable[P, R | None]:
        @functools.wraps(function)
        def call_guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # the one broad `except`, see the module
                if is_strict() or is_interruption(error):
                    raise
                report(doing, error)
                return None

        return call_guarded

    return decorate
