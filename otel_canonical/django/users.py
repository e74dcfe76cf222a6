"""Shows on the scoreboard who a request's user is, once the app has looked the user up.

The line's `user_id` is read at the end of the request (`handler.read_request`); this is for `otel-canonical
ps`. No query is made for it, and a request whose user nobody looks up costs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from otel_canonical.internal_errors import guarded
from otel_canonical.patching import patch
from otel_canonical.request.scope import open_scope

GetUser = Callable[[Any], Any]
GetUserAsync = Callable[[Any], Awaitable[Any]]


def wrap_get_user(module: Any) -> None:
    """Patch `django.contrib.auth`, which Django's middleware asks for the user of a session."""
    patch(module, "get_user", _showing)
    patch(module, "aget_user", _showing_async, is_optional=True)


def _showing(get_user: GetUser) -> GetUser:
    def get_user_and_show(request: Any) -> Any:
        user = get_user(request)
        _show(user)
        return user

    return get_user_and_show


def _showing_async(aget_user: GetUserAsync) -> GetUserAsync:
    async def get_user_and_show_async(request: Any) -> Any:
        user = await aget_user(request)
        _show(user)
        return user

    return get_user_and_show_async


def _show(user: Any) -> None:
    with guarded("showing the user of a request"):
        scope = open_scope()
        if scope is not None and scope.slot is not None and user.is_authenticated:
            scope.slot.write_user(scope.started_ns, str(user.pk))
