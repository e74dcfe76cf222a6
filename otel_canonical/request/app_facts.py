"""The app's own facts: set, add, timers, partial failures, enrichers. These are the public functions.

Outside a request each of them does nothing, so that tests, shells and management commands need no checks.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, SupportsFloat, TypeVar, cast

from otel_canonical.event import logfmt
from otel_canonical.event.fields import field_value
from otel_canonical.internal_errors import guarded, guarded_app_code
from otel_canonical.request.scope import RequestScope, open_scope, readers
from otel_canonical.stacks import errors

P = ParamSpec("P")
R = TypeVar("R")

#: Called with Django's request and response (each None if there is none) when the event is made.
Enricher = Callable[[Any, Any], "Mapping[str, object] | None"]

#: A description for error reports, and the callback.
_enrichers: list[tuple[str, Enricher]] = []

#: A public name: sites configure it in `LOGGING`.
logger = logging.getLogger("otel_canonical.app_facts")


def set(key: str, value: object) -> None:  # noqa: A001  # the name that reads right at the call
    """Show `value` as `app_<key>` on this request's event; a later value replaces an earlier one.

    A key is what the line can show: other characters than letters, digits, `_` and `.` become `_`.
    Strings, numbers and booleans stay what they are, None removes the key, anything else is shown
    as its `str`, or as `!err` if that raises.
    """
    scope = open_scope()
    if scope is None:
        return
    key = _clean(key)
    if value is not None:
        scope.set_app(key, field_value(value))
    elif scope.app is not None:
        scope.app.pop(key, None)


def add(key: str, amount: SupportsFloat = 1) -> None:
    """Add `amount` to the number shown as `app_<key>`; what is not a number yet starts at 0.

    Integers stay integers; any other number, a Decimal too, is added as a float.
    """
    scope = open_scope()
    if scope is None:
        return
    with guarded("adding to a fact of the app"):
        key = _clean(key)
        number = amount if isinstance(amount, int) else float(amount)
        if scope.app is None:
            scope.app = {}
        facts = cast("dict[str, Any]", scope.app)
        before = facts.setdefault(key, 0)
        if not isinstance(before, int | float) and facts[key] is before:
            facts[key] = 0
        # Other threads of the request add, too: no call between reading and writing.
        facts[key] += number


def get(key: str, default: object = None) -> object:
    """Return what `set` or `add` last gave `key` in this request, else `default`."""
    scope = open_scope()
    if scope is None or scope.app is None:
        return default
    return scope.app.get(_clean(key), default)


class timer:  # noqa: N801  # used like a function: `with timer("pricing"):`
    """Time a block or a function, sync or async; each run adds to `app_<key>_time`, in seconds.

    `app_<key>_count` says how often, if more than once. The total is exact however short each run is.
    A run inside another run of the same key counts twice. One timer may be used by many requests at
    once; a run that ends in another thread or task than it began in is not counted.

    Args:
        key: what is timed.
        outcome: keep runs that raise apart: `app_<key>_success_time`, `app_<key>_failure_time`.

    Example::

        with otel_canonical.timer("pricing"):
            ...

        @otel_canonical.timer("pricing", outcome=True)
        async def price(cart): ...
    """

    def __init__(self, key: str, *, outcome: bool = False) -> None:
        self._key = _clean(key)
        self._outcome = outcome

    def __enter__(self) -> timer:
        _runs.set((self, time.perf_counter_ns(), _runs.get()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended_ns = time.perf_counter_ns()
        started_ns = self._take_start()
        scope = open_scope()
        if scope is not None and started_ns is not None:
            key = self._key
            if self._outcome:
                key += "_success" if error is None else "_failure"
            scope.add_time(key, ended_ns - started_ns)

    def _take_start(self) -> int | None:
        """Remove the innermost run of this timer and return when it began; None if there is none here."""
        within: list[_Run] = []
        run = _runs.get()
        while run is not None and run[0] is not self:
            # Two generators may be timed in turns.
            within.append(run)
            run = run[2]
        if run is None:
            return None
        _, started_ns, runs = run
        for other, other_ns, _ in reversed(within):
            runs = (other, other_ns, runs)
        _runs.set(runs)
        return started_ns

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Time every call of `function`; of an async one, until its result is there."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_async(*args: P.args, **kwargs: P.kwargs) -> object:
                with timer(self._key, outcome=self._outcome):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", timed_async)

        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with timer(self._key, outcome=self._outcome):
                return function(*args, **kwargs)

        return timed


#: A run of a timer: the timer, when it began, and the run around it.
_Run = tuple[timer, int, "_Run | None"]

#: The innermost run of this thread, task or greenlet. Not on the timer, which all of them share.
_runs: ContextVar[_Run | None] = ContextVar("otel_canonical_timer_runs", default=None)


def partial_failure(*, return_value: object = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Survive a failure of the decorated function, sync or async, and write a line about it at once.

    An exception becomes a line of its own, `event_type=partial_failure`, joined to the request's by
    `req_id` and `trace_id`, and the caller gets a copy of `return_value`. Under Django's DEBUG the
    exception is raised, so that it is seen while developing. Outside a request it is logged instead.

    Args:
        return_value: what the caller gets instead; copied each time, so a list isn't shared.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def survive_async(*args: P.args, **kwargs: P.kwargs) -> object:
                try:
                    return await function(*args, **kwargs)
                except Exception as error:  # noqa: BLE001  # the app asked to survive it
                    return _survive(error, function, return_value)

            return cast("Callable[P, R]", survive_async)

        @functools.wraps(function)
        def survive(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # the app asked to survive it
                return cast("R", _survive(error, function, return_value))

        return survive

    return decorate


def enrich(callback: Enricher) -> Enricher:
    """Register a callback that adds facts to every event when it is made; usable as a decorator.

    It is called once per request with Django's request and response, each None if Django never saw
    the request; what it returns appears as `app_<key>`. One that raises, if only SystemExit, loses its own
    facts only.
    """
    name = getattr(callback, "__qualname__", callback)
    if all(known is not callback for _, known in _enrichers):
        _enrichers.append((f"asking {name!r} to enrich an event", callback))
    if read_enrichers not in readers:
        readers.append(read_enrichers)
    return callback


def read_enrichers(scope: RequestScope) -> None:
    """Let every registered callback add its facts to a scope that is about to be closed."""
    for doing, callback in _enrichers:
        with guarded_app_code(doing):
            facts = callback(scope.django_request, scope.django_response)
            for key, value in (facts or {}).items():
                if value is not None:
                    scope.set_app(_clean(key), field_value(value))


def _clean(key: str) -> str:
    """Return a key as a line shows it: keys that look alike there are one key."""
    return logfmt.clean_key(key) if key.__class__ is not str or key else key


def _survive(error: Exception, function: Callable[..., object], return_value: object) -> object:
    if _is_debug():
        raise error
    scope = open_scope()
    if scope is None or scope.observer is None:
        logger.warning("%s failed and was survived", function.__qualname__, exc_info=error)
    else:
        with guarded("writing a partial failure"):
            scope.observer.partial_failure(scope, errors.of_error(error))
    return copy.deepcopy(return_value)


def _is_debug() -> bool:
    # Only a Django that is loaded already can be in DEBUG.
    django_conf = sys.modules.get("django.conf")
    if django_conf is None or not django_conf.settings.configured:
        return False
    return bool(django_conf.settings.DEBUG)
