"""Connections: quiet while they set themselves up, and never longer, whatever is raised into our code."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from otel_canonical.django import connections
from otel_canonical.django.queries import COUNTER, QueryCounter


class TimeIsUp(Exception):
    """What a view's own time limit raises."""


def interrupting(at: int) -> Callable[..., Any]:
    """Return a trace function that raises at the n-th line of the module that runs."""
    left = [at]

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != connections.__file__:
            return None
        if event == "line":
            left[0] -= 1
            # A line of assignments only is none in which a signal handler runs.
            if left[0] == 0 and not is_quietening(frame):
                sys.settrace(None)
                raise TimeIsUp
        return trace

    return trace


def is_quietening(frame: FrameType) -> bool:
    """Return whether the next line begins or ends the quiet, or is the `try:` behind its beginning."""
    line = linecache.getline(connections.__file__, frame.f_lineno).strip()
    return line in ("try:", "counter.is_quiet = False")


@pytest.mark.parametrize(
    "wrap", [connections._timing_connect, connections._timing_check, connections._timing_control]
)
def test_connection_is_quiet_no_longer_than_the_call(wrap: Callable[..., Any]) -> None:
    """Wherever a signal handler of the app's raises: a connection that stayed quiet would count nothing."""
    asked: list[bool] = []
    counter = QueryCounter()
    connection = SimpleNamespace(**{COUNTER: counter})
    wrapped = wrap(lambda self: asked.append(getattr(self, COUNTER).is_quiet))
    wrapped(connection)
    assert asked == [True]
    assert not counter.is_quiet
    for at in range(1, 30):
        tracing = sys.gettrace()
        sys.settrace(interrupting(at))
        try:
            wrapped(connection)
        except TimeIsUp:
            pass
        finally:
            sys.settrace(tracing)
        assert not counter.is_quiet, at
    assert all(asked)
