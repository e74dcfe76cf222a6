"""Times what connections do beside queries: opening, health checks, transaction control.

Lives where the app is loaded. Django's backends are patched when a connection of theirs is first opened;
until then it is not known which there are. A signal handler of the app's may raise in any call below, so
no call stands between marking a connection as quiet and the `try` that ends that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from otel_canonical.django import databases
from otel_canonical.django.queries import COUNTER, QueryCounter, counter_of
from otel_canonical.internal_errors import guarded, report_caught
from otel_canonical.otel import driver_instrumentations
from otel_canonical.otel.query_spans import carried_scope
from otel_canonical.patching import patch
from otel_canonical.request.scope import RequestScope, current_scope

#: Methods that control transactions. `set_autocommit` itself isn't one: it runs the app's `on_commit`.
TRANSACTION_CONTROL = (
    *("_commit", "_rollback", "_set_autocommit", "_start_transaction_under_autocommit"),
    *("_savepoint", "_savepoint_rollback", "_savepoint_commit"),
)

#: Of some backends only.
OPTIONAL = frozenset(("_start_transaction_under_autocommit",))

#: The backends that are patched.
_patched: set[type] = set()


def wrap_connect(module: Any) -> None:
    """Patch `django.db.backends.base.base.BaseDatabaseWrapper.connect`.

    What runs inside is how a connection sets itself up, the receivers of `connection_created` included.
    """
    patch(module.BaseDatabaseWrapper, "connect", _timing_connect)


def watch_open_connections() -> None:
    """Count the queries of connections that were opened before `wrap_connect`."""
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        _patch_backend(type(connection))
        counter_of(connection)


def _timing_connect(connect: Callable[[Any], None]) -> Callable[[Any], None]:
    def connect_timed(self: Any) -> None:
        counter: QueryCounter | None = getattr(self, COUNTER, None)
        if counter is None:
            with guarded("preparing to open a connection"):
                _patch_backend(type(self))
                counter = counter_of(self)
        if counter is None or counter.is_quiet:
            return connect(self)
        counter.facts = None
        is_open = False
        started_ns = time.perf_counter_ns()
        counter.is_quiet = True
        try:
            connect(self)
            is_open = True
        finally:
            counter.is_quiet = False
            elapsed_ns = time.perf_counter_ns() - started_ns
            if (scope := _open_request()) is not None:
                queries = scope.queries or scope.query_tally()
                queries.connect_ns += elapsed_ns
                scope.accounted_ns += elapsed_ns
                queries.connects += is_open

    return connect_timed


def _patch_backend(backend: type) -> None:
    if backend in _patched:
        return
    databases.note_backend(backend)
    patch(backend, "get_new_connection", _connecting)
    patch(backend, "is_usable", _timing_check)
    for name in TRANSACTION_CONTROL:
        patch(backend, name, _timing_control, is_optional=name in OPTIONAL)
    # Last: another thread that finds it here opens its connection at once. Patching twice changes nothing.
    _patched.add(backend)


def _connecting(get_new_connection: Callable[..., Any]) -> Callable[..., Any]:
    def get_new_connection_of_django(self: Any, conn_params: Any) -> Any:
        token = None
        try:
            # A property, which makes the pool, not yet open.
            pool = getattr(self, "pool", None)
            if pool is not None:
                driver_instrumentations.watch_pool(pool)
            token = driver_instrumentations.begin_connecting()
        except Exception as error:  # noqa: BLE001  # a fence, see `report_caught`
            report_caught("keeping the driver's instrumentation off a connection", error)
        try:
            return get_new_connection(self, conn_params)
        finally:
            if token is not None:
                driver_instrumentations.end_connecting(token)

    return get_new_connection_of_django


def _timing_check(is_usable: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def is_usable_timed(self: Any) -> bool:
        counter: QueryCounter | None = getattr(self, COUNTER, None)
        if counter is None or counter.is_quiet:
            return is_usable(self)
        started_ns = time.perf_counter_ns()
        counter.is_quiet = True
        try:
            return is_usable(self)
        finally:
            counter.is_quiet = False
            elapsed_ns = time.perf_counter_ns() - started_ns
            if (scope := _open_request()) is not None:
                queries = scope.queries or scope.query_tally()
                queries.connect_ns += elapsed_ns
                scope.accounted_ns += elapsed_ns

    return is_usable_timed


def _open_request() -> RequestScope | None:
    scope = current_scope.get() or carried_scope()
    return scope if scope is not None and scope.is_open else None


def _timing_control(control: Callable[..., Any]) -> Callable[..., Any]:
    def control_timed(self: Any, *args: Any) -> Any:
        counter: QueryCounter | None = getattr(self, COUNTER, None)
        if counter is None or counter.is_quiet:
            return control(self, *args)
        started_ns = time.perf_counter_ns()
        counter.is_quiet = True
        try:
            return control(self, *args)
        finally:
            counter.is_quiet = False
            elapsed_ns = time.perf_counter_ns() - started_ns
            if (scope := _open_request()) is not None:
                queries = scope.queries or scope.query_tally()
                queries.txn_ns += elapsed_ns
                scope.accounted_ns += elapsed_ns

    return control_timed
