"""The measured views: one does nothing, one asks the database; two more make every request differ."""

from __future__ import annotations

import gc
import sys
import tracemalloc

from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse
from django.urls import path


def answer_ok(request: HttpRequest) -> HttpResponse:
    """Answer at once."""
    return HttpResponse(b"ok")


def run_queries(request: HttpRequest, count: int) -> HttpResponse:
    """Run `count` look-ups by primary key; no row matches, so only the queries cost."""
    found = sum(Group.objects.filter(pk=number).first() is not None for number in range(count))
    return HttpResponse(f"found {found} of {count}")


def show_item(request: HttpRequest, name: str) -> HttpResponse:
    """Answer with what the path says."""
    return HttpResponse(f"item {name}")


def fail(request: HttpRequest, name: str) -> HttpResponse:
    """Raise, with a message that no other request has."""
    raise ValueError(f"{name} is not for sale")


def count_blocks(request: HttpRequest) -> HttpResponse:
    """Answer with how many blocks Python has allocated and, if that is traced, where they grew."""
    gc.collect()
    answer = f"{sys.getallocatedblocks()}\n"
    if tracemalloc.is_tracing():
        now = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, __file__)])
        grown = now.compare_to(_snapshots.pop(), "lineno")[:15] if _snapshots else []
        _snapshots.append(now.filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)]))
        answer += "".join(f"{line}\n" for line in grown)
    return HttpResponse(answer)


_snapshots: list[tracemalloc.Snapshot] = []

urlpatterns = [
    path("ok/", answer_ok),
    path("queries/<int:count>/", run_queries),
    path("items/<slug:name>/", show_item),
    path("fails/<slug:name>/", fail),
    path("blocks/", count_blocks),
]
