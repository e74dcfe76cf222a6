"""Look-ups in Django's caches are counted by key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import caches
from django.http import HttpResponse

from tests.support.in_process import event_of


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
