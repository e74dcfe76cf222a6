"""APIs of django-ninja for tests. Import it when Django's settings are there: ninja reads them at import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI, Router
from ninja.decorators import decorate_view
from ninja.errors import HttpError
from ninja.security import APIKeyQuery


class Unavailable(Exception):
    """What the API's own handlers answer."""


class Key(APIKeyQuery):
    """Lets nobody in, or fails."""

    def authenticate(self, request: HttpRequest, key: str | None) -> None:
        """Refuse, or fail if that is the key."""
        if key == "broken":
            raise Unavailable("key store")


def kept(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Decorate an operation's view without `functools.wraps`."""

    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return view(request, *args, **kwargs)

    return wrapper


def shop() -> NinjaAPI:
    """Return an API with each kind of operation."""
    api, orders = NinjaAPI(), Router()

    @api.get("/orders")
    def list_orders(request: HttpRequest) -> list[int]:
        return []

    @api.post("/orders")
    def make_order(request: HttpRequest) -> list[int]:
        return []

    @orders.get("/{int:number}/lines")
    def lines_of(request: HttpRequest, number: int) -> list[int]:
        return [number]

    @orders.get("/slow/{word}")
    async def wait_for(request: HttpRequest, word: str) -> str:
        return word

    @api.api_operation(["PUT", "PATCH"], "/orders/{number}")
    def change(request: HttpRequest, number: int) -> int:
        return number

    @api.get("/kept")
    @decorate_view(kept)
    def keep(request: HttpRequest) -> str:
        return "kept"

    @api.get("/secret", auth=Key())
    def secret(request: HttpRequest) -> str:
        return "secret"

    @api.exception_handler(Unavailable)
    def unavailable(request: HttpRequest, exc: Unavailable) -> HttpResponse:
        return api.create_response(request, {"detail": "later"}, status=503)

    api.add_router("/of/", orders)
    return api


#: What operations raise, by name.
ERRORS = {
    "own": lambda: Unavailable("database"),
    "bad gateway": lambda: HttpError(502, "upstream"),
    "not found": lambda: HttpError(404, "not here"),
    "Django's": lambda: Http404("not here"),
    "bug": lambda: ValueError("bug"),
}


def failing(name: str, answer: int | Exception | None, *, is_async: bool) -> NinjaAPI:
    """Return an API whose operation raises, with a handler for `Unavailable` that answers or raises."""
    api, error = NinjaAPI(), ERRORS[name]()
    if is_async:

        @api.get("/fails")
        async def fails_async(request: HttpRequest) -> str:
            raise error

    else:

        @api.get("/fails")
        def fails(request: HttpRequest) -> str:
            raise error

    if answer is not None:

        @api.exception_handler(Unavailable)
        def unavailable(request: HttpRequest, exc: Unavailable) -> HttpResponse:
            if isinstance(answer, Exception):
                raise answer
            return api.create_response(request, {"detail": "later"}, status=answer)

    return api
