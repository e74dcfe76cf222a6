"""Look-ups in Django's caches are counted by key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.http import HttpResponse
from django.test import override_settings

from tests.support.in_process import event_of, take_10_ms
from tests.support.time_sums import sums_of


@pytest.mark.parametrize(
    ("look_up", "hits", "misses"),
    [
        (lambda cache: cache.get("here"), 1, 0),
        (lambda cache: cache.get("gone", "a default"), 0, 1),
        (lambda cache: cache.get("none"), 1, 0),
        (lambda cache: cache.get(key="here", default=None, version=1), 1, 0),
        (lambda cache: cache.get_many(iter(["here", "gone"])), 1, 1),
        (lambda cache: cache.get_or_set("here", 2), 1, 0),
        (lambda cache: cache.get_or_set("gone", 2), 0, 1),
        (lambda cache: cache.get_or_set("gone", None), 0, 1),
        (lambda cache: cache.get_or_set("gone", lambda: cache.get("here")), 1, 1),
        (lambda cache: cache.get_or_set("gone", lambda: cache.get_or_set("away", 1)), 0, 2),
        (lambda cache: [cache.get_or_set("gone", 2), cache.get("gone")], 1, 1),
        (lambda cache: asyncio.run(cache.aget_or_set("gone", 2)), 0, 1),
        (lambda cache: asyncio.run(cache.aget_or_set("here", 2)), 1, 0),
        (lambda cache: cache.set("here", 2), 0, 0),
        (lambda cache: "here" in cache, 1, 0),
        (lambda cache: "gone" in cache, 0, 1),
        (lambda cache: cache.incr("here"), 0, 0),
        (lambda cache: cache.incr_version("here"), 0, 0),
        (lambda cache: asyncio.run(cache.aget("here")), 1, 0),
        (lambda cache: asyncio.run(cache.aget_many(["here", "gone"])), 1, 1),
    ],
)
def test_lookup_is_hit_or_miss_whatever_the_method(
    in_process: None, look_up: Callable[[Any], object], hits: int, misses: int
) -> None:
    """A cached None is a hit; what one look-up does by another counts once."""

    def view(request: Any) -> HttpResponse:
        look_up(caches["default"])
        return HttpResponse()

    caches["default"].clear()
    caches["default"].set_many({"here": 1, "none": None})
    event = event_of(view)
    assert (event.get("cache_hits", 0), event.get("cache_misses", 0)) == (hits, misses)


class CacheThatIsDown(LocMemCache):
    """A cache that nobody answers for."""

    def get(self, *args: Any, **kwargs: Any) -> None:
        """Fail as late as a timeout does."""
        take_10_ms()
        raise ConnectionError("the cache is down")


def test_time_of_a_lookup_that_failed_is_shown(in_process: None) -> None:
    """Neither hit nor miss, but the request has waited for it."""

    def view(request: Any) -> HttpResponse:
        with contextlib.suppress(ConnectionError):
            caches["default"].get("key")
        return HttpResponse()

    down = {"default": {"BACKEND": f"{__name__}.{CacheThatIsDown.__name__}"}}
    event = event_of(view, CACHES=down)
    assert (event["cache_hits"], event["cache_misses"]) == (0, 0)
    assert event["cache_time"] >= 0.01
    assert sums_of(event).are_right(), event


def test_value_is_what_cache_gives_when_it_is_watched(in_process: None) -> None:
    """Counting changes no answer: values, defaults and None are what they were."""
    got: list[object] = []

    def view(request: Any) -> HttpResponse:
        cache = caches["default"]
        cache.set_many({"here": 1, "none": None})
        got.extend(
            [cache.get("here"), cache.get("none", 7), cache.get("gone"), cache.get("gone", 7)]
        )
        got.append(cache.get_many(["here", "gone"]))
        return HttpResponse()

    caches["default"].clear()
    event_of(view)
    assert got == [1, None, None, 7, {"here": 1}]


@pytest.mark.parametrize(
    ("look_up", "hits", "misses"),
    [
        (lambda cache: cache.get_or_set("gone", 2), 0, 1),
        (lambda cache: cache.get_or_set("here", 2), 1, 0),
        (lambda cache: cache.get_many(["here", "gone"]), 1, 1),
        (lambda cache: "here" in cache, 1, 0),
        (lambda cache: "gone" in cache, 0, 1),
        (lambda cache: cache.incr("here"), 0, 0),
        (lambda cache: cache.incr_version("here"), 0, 0),
    ],
)
@pytest.mark.parametrize("backend", ["db.DatabaseCache", "filebased.FileBasedCache"])
def test_rule_is_the_same_for_all_backends(
    in_process: None,
    backend: str,
    look_up: Callable[[Any], object],
    hits: int,
    misses: int,
    tmp_path: Path,
) -> None:
    """One implements `get` by `get_many`, another `in` by `get`: what the app asked for counts."""
    is_database = backend.startswith("db")
    where = "kept_in_database" if is_database else str(tmp_path)
    settings = {"default": {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": where}}

    def view(request: Any) -> HttpResponse:
        look_up(caches["default"])
        return HttpResponse()

    with override_settings(CACHES=settings):
        if is_database:
            call_command("createcachetable", verbosity=0)
        caches["default"].clear()
        caches["default"].set("here", 1)
        event = event_of(view)
    assert (event.get("cache_hits", 0), event.get("cache_misses", 0)) == (hits, misses)
