"""The two measured views: one that does nothing, one that asks the database ten things."""

from __future__ import annotations

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


urlpatterns = [
    path("ok/", answer_ok),
    path("queries/<int:count>/", run_queries),
]
