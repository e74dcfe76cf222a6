"""Counts hits and misses of Django's caches, whatever their backend.

Lives where the app is loaded. One rule for all backends, however they implement an operation:

    `get`, `in`, `get_or_set`   one hit or one miss
    `get_many`                  one hit or one miss for each key
    everything else             neither, also `incr` and `incr_version`, which some backends implement
                                with a `get`

In an exported request look-ups and writes have spans, too. These don't contain the keys, which may be
secret: a session's is. Writes are patched for their spans only, where spans are made.
"""

from __future__ import annotations

import functools
import time
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from opentelemetry import trace

from otel_canonical.internal_errors import guarded
from otel_canonical.otel import internal_spans
from otel_canonical.patching import patch
from otel_canonical.per_thread import PerThread
from otel_canonical.request.scope import RequestScope, open_scope

_MISSING = object()

Maker = Callable[[Callable[..., Any]], Callable[..., Any]]

#: Operations that a backend may implement with others; each call is one operation and has one span.
WRITES = ("set", "set_many", "add", "delete", "delete_many", "touch", "incr", "decr", "clear")

#: Operations that some backends implement with a look-up of their own.
UNCOUNTED = ("add", "touch", "incr", "decr", "incr_version", "decr_version")

_inside_span: PerThread[bool] = PerThread()

_inside_lookup: PerThread[bool] = PerThread()


class _GetOrSet:
    """A `get_or_set` call: its key, whether it has looked that up already, whether the call has ended."""

    __slots__ = ("is_looked_up", "is_over", "key")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.is_looked_up = self.is_over = False


#: A ContextVar, because `aget_or_set` looks the key up in a thread of asgiref's. Copies of the context
#: may outlive the call; `is_over` tells them.
_get_or_set: ContextVar[_GetOrSet | None] = ContextVar("otel_canonical_get_or_set", default=None)


def wrap_caches(module: Any) -> None:
    """Patch `django.core.cache.CacheHandler.create_connection`: every cache is made there."""
    patch(module.CacheHandler, "create_connection", _watching)


def _watching(create_connection: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def create_and_watch(self: Any, alias: str) -> Any:
        cache = create_connection(self, alias)
        with guarded("watching a cache"):
            _watch(cache, alias)
        return cache

    return create_and_watch


def watch_caches(caches: Any) -> None:
    """Watch the caches of this thread that were made before the patch."""
    for cache in caches.all(initialized_only=True):
        _watch(cache, "")


def _watch(cache: Any, alias: str) -> None:
    makers: dict[str, Maker] = {
        "get": functools.partial(_counting_get, alias),
        "get_many": functools.partial(_counting_get_many, alias),
        "has_key": functools.partial(_counting_has_key, alias),
        "get_or_set": _in_one_lookup,
        "aget_or_set": _in_one_lookup_async,
    }
    for name in UNCOUNTED:
        makers[name] = _uncounted
    if internal_spans.are_made(internal_spans.CACHES):
        for name in WRITES:
            makers[name] = functools.partial(_spanned_write, name, alias)
    for name, make in makers.items():
        # A method, not a function: Django 6.1 asks a cache's methods for their `__func__`.
        patch(cache, name, functools.partial(_as_method_of, cache, make), is_optional=True)


def _as_method_of(cache: Any, make: Maker, method: Callable[..., Any]) -> Callable[..., Any]:
    return types.MethodType(make(method), cache)


def _counting_get(alias: str, get: Callable[..., Any]) -> Callable[..., Any]:
    def get_and_count(_: Any, key: Any, default: Any = None, *args: Any, **kwargs: Any) -> Any:
        scope = open_scope()
        if scope is None or _inside_lookup.now():
            return get(key, default, *args, **kwargs)
        if _is_asked_again(key):
            return _uncounted(get)(None, key, default, *args, **kwargs)
        with _Lookup(scope, "cache.get", alias) as lookup:
            value = get(key, _MISSING, *args, **kwargs)
            lookup.found = 0 if value is _MISSING else 1
            lookup.asked = 1
        return default if value is _MISSING else value

    return get_and_count


def _counting_has_key(alias: str, has_key: Callable[..., Any]) -> Callable[..., Any]:
    def has_key_and_count(_: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        scope = open_scope()
        if scope is None or _inside_lookup.now():
            return has_key(key, *args, **kwargs)
        with _Lookup(scope, "cache.has_key", alias) as lookup:
            is_there = has_key(key, *args, **kwargs)
            lookup.found = 1 if is_there else 0
            lookup.asked = 1
        return is_there

    return has_key_and_count


def _uncounted(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Count none of the look-ups that an operation is implemented with."""

    def operate_uncounted(_: Any, *args: Any, **kwargs: Any) -> Any:
        outer = _inside_lookup.enter(True)
        try:
            return operation(*args, **kwargs)
        finally:
            _inside_lookup.leave(outer)

    return operate_uncounted


def _counting_get_many(alias: str, get_many: Callable[..., Any]) -> Callable[..., Any]:
    def get_many_and_count(_: Any, keys: Any, *args: Any, **kwargs: Any) -> Any:
        scope = open_scope()
        if scope is None or _inside_lookup.now():
            return get_many(keys, *args, **kwargs)
        keys = list(keys)
        with _Lookup(scope, "cache.get_many", alias) as lookup:
            values = get_many(keys, *args, **kwargs)
            lookup.found = len(values)
            lookup.asked = len(keys)
        return values

    return get_many_and_count


def _spanned_write(name: str, alias: str, write: Callable[..., Any]) -> Callable[..., Any]:
    attributes = _attributes(alias)
    if name in UNCOUNTED:
        write = functools.partial(_uncounted(write), None)

    def write_in_span(_: Any, *args: Any, **kwargs: Any) -> Any:
        scope = open_scope()
        if scope is None or not _has_span(scope):
            return write(*args, **kwargs)
        outer = _inside_span.enter(True)
        try:
            with internal_spans.span(internal_spans.CACHES, f"cache.{name}", attributes):
                return write(*args, **kwargs)
        finally:
            _inside_span.leave(outer)

    return write_in_span


def _has_span(scope: RequestScope) -> bool:
    return internal_spans.are_made_in(scope, internal_spans.CACHES) and not _inside_span.now()


def _attributes(alias: str) -> dict[str, str]:
    return {"canonical.cache.alias": alias} if alias else {}


def _in_one_lookup(get_or_set: Callable[..., Any]) -> Callable[..., Any]:
    def get_or_set_in_one(_: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        under_way = _GetOrSet(key)
        token = _get_or_set.set(under_way)
        try:
            return get_or_set(key, *args, **kwargs)
        finally:
            under_way.is_over = True
            _get_or_set.reset(token)

    return get_or_set_in_one


def _in_one_lookup_async(aget_or_set: Callable[..., Any]) -> Callable[..., Any]:
    async def aget_or_set_in_one(_: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        under_way = _GetOrSet(key)
        token = _get_or_set.set(under_way)
        try:
            return await aget_or_set(key, *args, **kwargs)
        finally:
            under_way.is_over = True
            _get_or_set.reset(token)

    return aget_or_set_in_one


def _is_asked_again(key: Any) -> bool:
    """Return whether this is the `get` by which `get_or_set` reads back what it has just set."""
    under_way = _get_or_set.get()
    if under_way is None or under_way.is_over or under_way.key != key:
        return False
    again = under_way.is_looked_up
    under_way.is_looked_up = True
    return again


class _Lookup:
    """One look-up, timed. On exit its hits, misses and time are added to the scope."""

    __slots__ = (
        "_accounted_ns",
        "_alias",
        "_entered",
        "_name",
        "_outer",
        "_outer_span",
        "_scope",
        "_span",
        "_started_ns",
        "asked",
        "found",
    )

    def __init__(self, scope: RequestScope, name: str, alias: str) -> None:
        self._scope = scope
        self._name = name
        self._alias = alias
        self._entered: AbstractContextManager[trace.Span] | None = None
        self.asked = 0
        self.found = 0

    def __enter__(self) -> _Lookup:
        self._outer = _inside_lookup.enter(True)
        if _has_span(self._scope):
            self._outer_span = _inside_span.enter(True)
            self._entered = internal_spans.span(
                internal_spans.CACHES, self._name, _attributes(self._alias)
            )
            self._span = self._entered.__enter__()
        self._accounted_ns = self._scope.accounted_ns
        self._started_ns = time.perf_counter_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope = self._scope
        # Two statements: while the clock is read, another thread of the request may add its time.
        elapsed_ns = time.perf_counter_ns() - self._started_ns
        scope.cache_ns += elapsed_ns
        scope.leave_measured(self._accounted_ns, elapsed_ns)
        missed = self.asked - self.found
        scope.cache_hits += self.found
        scope.cache_misses += missed
        try:
            if self._entered is not None:
                self._span.set_attribute("canonical.cache.hits", self.found)
                self._span.set_attribute("canonical.cache.misses", missed)
                self._entered.__exit__(kind, error, traceback)
        finally:
            if self._entered is not None:
                _inside_span.leave(self._outer_span)
            _inside_lookup.leave(self._outer)
