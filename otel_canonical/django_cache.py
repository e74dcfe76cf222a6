"""Counts hits and misses of Django's caches, whatever their backend.

Lives where the app is loaded. Look-ups are counted by key: `get_many` of ten keys is ten. What
a backend does to serve one look-up by another (`get_or_set` by `get`) is counted once.
"""

from __future__ import annotations

import functools
import time
import types
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from otel_canonical.request_scope import RequestScope, open_scope

_MARK = "__otel_canonical__"
_MISSING = object()

_inside_lookup: ContextVar[bool] = ContextVar("otel_canonical_inside_cache", default=False)

#: The key that a `get_or_set` under way is about, and whether it has looked it up already.
_getting_or_setting: ContextVar[list[Any] | None] = ContextVar(
    "otel_canonical_get_or_set", default=None
)


def wrap_caches(module: Any) -> None:
    """Wrap `django.core.cache.CacheHandler.create_connection`: every cache is made there."""
    create_connection = module.CacheHandler.create_connection
    if hasattr(create_connection, _MARK):
        return

    @functools.wraps(create_connection)
    def create_and_watch(self: Any, alias: str) -> Any:
        cache = create_connection(self, alias)
        _watch(cache)
        return cache

    setattr(create_and_watch, _MARK, True)
    module.CacheHandler.create_connection = create_and_watch


def watch_caches(caches: Any) -> None:
    """Watch the caches of this thread that were made before the wrapping."""
    for cache in caches.all(initialized_only=True):
        _watch(cache)


def _watch(cache: Any) -> None:
    if hasattr(cache.get, _MARK):
        return
    for name, wrap in (
        ("get", _counting_get),
        ("get_many", _counting_get_many),
        ("get_or_set", _in_one_lookup),
        ("aget_or_set", _in_one_lookup_async),
    ):
        method = getattr(cache, name, None)
        if method is not None:
            wrapped = wrap(method)
            setattr(wrapped, _MARK, True)
            # A method, not a function: Django 6.1 asks a cache's methods for their `__func__`.
            setattr(cache, name, types.MethodType(wrapped, cache))


def _counting_get(get: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get)
    def get_and_count(_: Any, key: Any, default: Any = None, *args: Any, **kwargs: Any) -> Any:
        scope = open_scope()
        if scope is None or _inside_lookup.get() or _is_asked_again(key):
            return get(key, default, *args, **kwargs)
        with _Lookup(scope) as lookup:
            value = get(key, _MISSING, *args, **kwargs)
            lookup.found = 0 if value is _MISSING else 1
            lookup.asked = 1
        return default if value is _MISSING else value

    return get_and_count


def _counting_get_many(get_many: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_many)
    def get_many_and_count(_: Any, keys: Any, *args: Any, **kwargs: Any) -> Any:
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


def _in_one_lookup(get_or_set: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_or_set)
    def get_or_set_in_one(_: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        token = _getting_or_setting.set([key, False])
        try:
            return get_or_set(key, *args, **kwargs)
        finally:
            _getting_or_setting.reset(token)

    return get_or_set_in_one


def _in_one_lookup_async(aget_or_set: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(aget_or_set)
    async def aget_or_set_in_one(_: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        token = _getting_or_setting.set([key, False])
        try:
            return await aget_or_set(key, *args, **kwargs)
        finally:
            _getting_or_setting.reset(token)

    return aget_or_set_in_one


def _is_asked_again(key: Any) -> bool:
    """Return whether this is the `get` by which `get_or_set` reads back what it has just set."""
    asked = _getting_or_setting.get()
    if asked is None or asked[0] != key:
        return False
    again: bool = asked[1]
    asked[1] = True
    return again


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
