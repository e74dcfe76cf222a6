"""Views are named as their author would: whatever wraps them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import include, path
from django.views import View

from otel_canonical.django.channels import route_of
from otel_canonical.testing import capture_events

HERE = __name__


def answer(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
    """Answer."""
    return HttpResponse("yes")


def nameless(view: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap without `functools.wraps`."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


def named(view: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap with it."""

    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


def routed(view: Callable[..., Any]) -> Callable[..., Any]:
    """Choose a view at each request, as wagtail does; what it holds is a helper."""

    def chosen_by(kwargs: dict[str, Any]) -> Callable[..., Any]:
        return globals()["answer"] if not kwargs else view

    def router(request: Any, **kwargs: Any) -> Any:
        return chosen_by(kwargs)(request)

    return router


def checked(view: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap without `functools.wraps`, naming the request."""

    def wrapper(request: Any, *args: Any) -> Any:
        return view(request, *args)

    return wrapper


def short(req: Any) -> HttpResponse:
    """Answer."""
    return HttpResponse("yes")


class Page(View):
    """A class-based view."""

    def get(self, request: Any) -> HttpResponse:
        """Answer."""
        return HttpResponse("yes")


class Site:
    """What an admin site does: a view is a method of an object."""

    def change(self, request: Any) -> HttpResponse:
        """Answer."""
        return HttpResponse("yes")

    @named
    def history(self, request: Any) -> HttpResponse:
        """Answer."""
        return HttpResponse("yes")


class Shop(Site):
    """Another one."""

    def __call__(self, request: Any) -> HttpResponse:
        """Be a view."""
        return HttpResponse("yes")


def view_of(pattern: Any, url: str = "/view/", method: str = "get") -> str:
    """Return `resp_view` of one request."""
    with (
        override_settings(ROOT_URLCONF=(pattern,), ALLOWED_HOSTS=["testserver"]),
        capture_events() as events,
    ):
        getattr(Client(), method)(url)
    [event] = events
    return str(event["resp_view"])


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (answer, f"{HERE}.answer"),
        (functools.partial(answer, plan="pro"), f"{HERE}.answer"),
        (functools.partial(functools.partial(answer, 1), 2), f"{HERE}.answer"),
        (nameless(answer), f"{HERE}.answer"),
        (named(answer), f"{HERE}.answer"),
        (nameless(named(nameless(answer))), f"{HERE}.answer"),
        (functools.partial(nameless(answer)), f"{HERE}.answer"),
        (checked(answer), f"{HERE}.answer"),
        (checked(short), f"{HERE}.short"),
        (checked(Site().change), f"{HERE}.Site.change"),
        (routed(answer), f"{HERE}.router"),
        (Page.as_view(), f"{HERE}.Page"),
        (nameless(Page.as_view()), f"{HERE}.Page"),
        (Site().change, f"{HERE}.Site.change"),
        (Shop().history, f"{HERE}.Shop.history"),
        (named(Shop().change), f"{HERE}.Shop.change"),
        (Shop(), f"{HERE}.Shop"),
    ],
)
def test_view_is_what_its_wrappers_wrap(view: Any, name: str, in_process: None) -> None:
    """Also at the second request, whose name comes from memory."""
    for _ in range(2):
        assert view_of(path("view/", view)) == name


def test_view_set_is_named_with_its_action(in_process: None) -> None:
    """One URL has an action for each method."""
    from rest_framework.response import Response
    from rest_framework.viewsets import ViewSet

    class Orders(ViewSet):
        authentication_classes: tuple[()] = ()
        permission_classes: tuple[()] = ()

        def list(self, request: Any) -> Response:
            return Response([])

        def create(self, request: Any) -> Response:
            return Response({})

    name = f"{HERE}.{Orders.__qualname__}"
    pattern = path("view/", Orders.as_view({"get": "list", "post": "create"}))
    for method, shown in (("get", ".list"), ("post", ".create"), ("head", ".list"), ("put", "")):
        assert view_of(pattern, method=method) == name + shown


def test_operation_of_ninja_is_named_by_its_function(in_process: None) -> None:
    """Not by the wrapper that all of them share."""
    from ninja import NinjaAPI

    api = NinjaAPI(urls_namespace="named")

    @api.get("/orders")
    def list_orders(request: Any) -> list[int]:
        return []

    @api.post("/orders")
    def make_order(request: Any) -> list[int]:
        return []

    pattern = path("api/", include((api.urls[0], "ninja"), namespace="named"))
    for method, function in (("get", "list_orders"), ("post", "make_order")):
        assert view_of(pattern, "/api/orders", method) == f"{HERE}.{function}"


@pytest.mark.parametrize(
    ("path_", "arguments", "route"),
    [
        ("/chat/lobby/", {"room": "lobby"}, "chat/<room>/"),
        ("/chat/7/7/", {"room": 7, "seat": 7}, "chat/<room>/<seat>/"),
        ("/chat/", {}, "chat/"),
        ("/", {}, "/"),
        ("/chat/x", {"room": ""}, "chat/x"),
    ],
)
def test_route_of_a_websocket_names_its_arguments(
    path_: str, arguments: dict[str, object], route: str
) -> None:
    """Channels keeps no pattern."""
    assert route_of(path_, arguments) == route
