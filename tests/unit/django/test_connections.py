"""Connections: quiet while they set themselves up, and never longer, whatever is raised into our code."""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from otel_canonical.django import connections
from otel_canonical.django.queries import COUNTER, QueryCounter
from otel_canonical.otel import driver_instrumentations
from otel_canonical.patching import patches_of
from tests.support.servers import PATIENCE_S


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


class _Patching:
    """A stand-in for `patch` that waits before its n-th change, as a thread does that is not scheduled."""

    def __init__(self, patch: Callable[..., bool], at: int) -> None:
        self._patch, self._left = patch, at
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> bool:
        self._left -= 1
        if self._left == 0:
            self.has_begun.set()
            assert self.may_go_on.wait(PATIENCE_S)
        return self._patch(*args, **kwargs)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_backend_is_patched_for_every_thread_that_connects(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for one that comes while another one patches it: else its queries would count twice."""

    class Backend(SimpleNamespace):
        vendor = "unknown"
        get_new_connection = is_usable = lambda self: None

    for name in connections.TRANSACTION_CONTROL:
        setattr(Backend, name, lambda self: None)
    slow = _Patching(connections.patch, at)
    monkeypatch.setattr(connections, "patch", slow)
    first = threading.Thread(target=connections._patch_backend, args=(Backend,))
    first.start()
    try:
        assert slow.has_begun.wait(PATIENCE_S)
        connections._patch_backend(Backend)
        patched = {name for name in vars(Backend) if patches_of(getattr(Backend, name))}
    finally:
        slow.may_go_on.set()
        first.join()
    assert patched >= {"get_new_connection", "is_usable", *connections.TRANSACTION_CONTROL}


def test_drivers_are_watched_for_every_thread_that_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also for one that comes while another one looks for their instrumentations."""

    class Integration:
        def __init__(self) -> None:
            """Be made for each connection."""

        def wrapped_connection(self) -> None:
            """Wrap a connection."""

    drivers = driver_instrumentations
    module = SimpleNamespace(DatabaseApiIntegration=Integration)
    monkeypatch.setitem(sys.modules, drivers.DBAPI, module)  # type: ignore[arg-type]
    monkeypatch.setattr(drivers, "_treatment", [drivers.Treatment.BYPASS])
    monkeypatch.setattr(drivers, "_looked_at", [0])
    slow = _Patching(drivers.patch, 2)
    monkeypatch.setattr(drivers, "patch", slow)

    def connect() -> None:
        drivers.end_connecting(drivers.begin_connecting())

    first = threading.Thread(target=connect)
    first.start()
    try:
        assert slow.has_begun.wait(PATIENCE_S)
        connect()
        patched = patches_of(Integration.wrapped_connection)
    finally:
        slow.may_go_on.set()
        first.join()
    assert patched
