"""Counts hits and misses of Django's caches, whatever their backend.

Lives where the app is loaded. Look-ups are counted by key: `get_many` of ten keys is ten. What
a backend does to serve one look-up by another (`get_or_set` by `get`) is counted once.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from otel_canonical.request_scope import RequestScope, open_scope

_MARK = "__otel_canonical__"
_MISSING = object()

_inside_lookup: ContextVar[bool] = ContextVar("otel_canonical_inside_cache", default=False)


def wrap_caches(module: Any) -> None:
    """Wrap `django.core.cache.CacheHandler.create_connection`: every cache is made there."""
    create_connection = module.CacheHandler.create_connection
    if hasattr(create_connection, _MARK):
        return

    @functools.wraps(create_connection)
    def create_and_watch(self: Any, alias: str) -> Any:
        cache = create_connection(self, alias)
        cache.get = _counting_get(cache.get)
        cache.get_many = _counting_get_many(cache.get_many)
        return cache

    setattr(create_and_watch, _MARK, True)
    module.CacheHandler.create_connection = create_and_watch


def _counting_get(get: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get)
    def get_and_count(key: Any, default: Any = None, *args: Any, **kwargs: Any) -> Any:
        scope = open_scope()
        if scope is None or _inside_lookup.get():
            return get(key, default, *args, **kwargs)
        with _Lookup(scope) as lookup:
            value = get(key, _MISSING, *args, **kwargs)
            lookup.found = 0 if value is _MISSING else 1
            lookup.asked = 1
        return default if value is _MISSING else value

    return get_and_count


def _counting_get_many(get_many: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_many)
    def get_many_and_count(keys: Any, *args: Any, **kwargs: Any) -> Any:
        scope = open_scope()
        if scope is None or _inside_lookup.get():
            return get_many(keys, *args, **kwargs)
        keys = list(keys)
        with _Lookup(scope) as lookup:
            values = get_many(keys, *args, **kwargs)
            lookup.found = len(values)
            lookup.asked = len(keys)
        return values

    return get_many_and_count


class _Lookup:
    """One look-up, timed; what it asked for and found is added to the scope when it leaves."""

    __slots__ = ("_scope", "_started_ns", "_token", "asked", "found")

    def __init__(self, scope: RequestScope) -> None:
        self._scope = scope
        self.asked = 0
        self.found = 0

    def __enter__(self) -> _Lookup:
        self._token = _inside_lookup.set(True)
        self._started_ns = time.perf_counter_ns()
        return self

    def __exit__(self, *_: object) -> None:
        scope = self._scope
        scope.cache_ns += time.perf_counter_ns() - self._started_ns
        scope.cache_hits += self.found
        scope.cache_misses += self.asked - self.found
        _inside_lookup.reset(self._token)
