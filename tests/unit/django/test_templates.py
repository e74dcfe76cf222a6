"""Template renders of a view are counted and timed."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import caches
from django.http import HttpResponse

from otel_canonical.django import cache, templates
from tests.support.in_process import event_of


def test_renders_are_counted_each_when_view_renders_twice(in_process: None) -> None:
    """Two renders after each other are two, a third after one that raised is a third."""
    from django.template.loader import render_to_string

    def view(request: Any) -> HttpResponse:
        render_to_string("good.html")
        with contextlib.suppress(ZeroDivisionError):
            render_to_string("good.html", {"x": _Raises()})
        return HttpResponse(render_to_string("part.html"))

    assert event_of(view)["tpl_renders"] == 3


class _Raises:
    def __str__(self) -> str:
        raise ZeroDivisionError


class Interrupted:
    """A clock that ticks once a second, and is interrupted by another thread of the request once."""

    def __init__(self, at: int, work: Callable[[], object]) -> None:
        self._ticks = itertools.count(1)
        self._at = at
        self._work = work

    def perf_counter_ns(self) -> int:
        """Return the time; at the tick that was asked for, when another thread has worked."""
        tick = next(self._ticks)
        if tick == self._at:
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(self._work,))
            thread.start()
            thread.join()
        return tick * 10**9


def test_times_are_of_all_threads_when_two_end_at_once(
    in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that adds its time while another one is about to."""
    from django.template.loader import render_to_string

    caches["default"].clear()

    def view(request: Any) -> HttpResponse:
        for module, work in (
            (templates, lambda: render_to_string("part.html")),
            (cache, lambda: caches["default"].get("gone")),
        ):
            # It begins, it ends: meanwhile the other one begins and ends, a tick later each.
            monkeypatch.setattr(module, "time", Interrupted(2, work))
            work()
        return HttpResponse()

    event = event_of(view)
    assert (event["tpl_renders"], event["tpl_time"]) == (2, 2.0)
    assert (event["cache_misses"], event["cache_time"]) == (2, 2.0)


def test_renders_of_template_partials_are_patched_where_django_has_them() -> None:
    """Django 6: `page.html#row` is a `PartialTemplate`, whose `render` is its own."""

    class Template:
        def render(self, context: object) -> str:
            return "template"

    class PartialTemplate:
        def render(self, context: object) -> str:
            return "partial"

    before = PartialTemplate.render
    templates.wrap_template(SimpleNamespace(Template=Template, PartialTemplate=PartialTemplate))
    assert PartialTemplate.render is not before
    assert (Template().render(None), PartialTemplate().render(None)) == ("template", "partial")
    templates.wrap_template(SimpleNamespace(Template=Template))
