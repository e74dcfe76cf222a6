"""Which line of an installed package asked for a query, where a view is no code of the app's."""

from __future__ import annotations

import functools
import os
import sysconfig
from typing import Any

import pytest
from django.http import HttpResponse
from django.template import Context, Engine, Origin, Template

from otel_canonical.stacks import query_location
from tests.support.in_process import event_of

pytestmark = pytest.mark.usefixtures("in_process")

PACKAGES = sysconfig.get_paths()["purelib"]

TREES = """
def parent():
    return locate()

def kept(view):
    @functools.wraps(view)
    def calls(request):
        return view(request)
    return calls

def asks(question):
    return lambda: found.append(question()) or ""

def home(request):
    found.append(parent())
    return HttpResponse()
"""
SHOP = """
def show(request):
    found.append(title())
    return HttpResponse()

def title():
    return parent()

def page(request):
    return HttpResponse(template.render(Context({"parent": asked, "title": asks_title})))
"""


def installed(module: str, source: str, **names: Any) -> dict[str, Any]:
    """Return the names of a module as one of an installed package."""
    file = os.path.join(PACKAGES, *module.split(".")) + ".py"
    space: dict[str, Any] = {"__name__": module, **names}
    exec(compile(source, file, "exec"), space)
    return space


def shop(template: str = "") -> tuple[dict[str, Any], dict[str, Any], list[str | None]]:
    """Return the package of a view, a library that it uses, and what will have been found."""
    found: list[str | None] = []
    names: dict[str, Any] = {"found": found, "HttpResponse": HttpResponse, "Context": Context}
    trees = installed("trees", TREES, locate=query_location.locate, functools=functools, **names)
    origin = Origin(os.path.join(PACKAGES, "shop", "page.html"), "shop/page.html")
    names["template"] = Template(template, origin, engine=Engine())
    views = installed("shop.views", SHOP, parent=trees["parent"], **names)
    views["asked"], views["asks_title"] = map(trees["asks"], (trees["parent"], views["title"]))
    return views, trees, found


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_line_is_of_the_package_of_the_view(is_wrapped: bool) -> None:
    """Not of a library below it, nor of one that has wrapped the view."""
    views, trees, found = shop()
    view = views["show"]
    event_of(trees["kept"](view) if is_wrapped else view)
    assert found == ["shop/views.py:7:title"]


@pytest.mark.parametrize(
    ("template", "place"),
    [
        ("\n{{ parent }}", "shop/page.html:2 < shop/views.py:10:page"),
        ("\n{{ title }}", "shop/views.py:7:title"),
    ],
)
def test_line_of_a_template_is_named_if_none_of_the_view_is_nearer(
    template: str, place: str
) -> None:
    """A template that asks a library is the line to change; one that calls the package's code isn't."""
    views, _, found = shop(template)
    event_of(views["page"])
    assert found == [place]


def test_library_is_named_where_the_package_of_the_view_is_not_on_the_stack() -> None:
    """A view that says it is another package's."""
    _, trees, found = shop()
    trees["home"].__module__ = "elsewhere"
    event_of(trees["home"])
    assert found == ["trees.py:3:parent"]
