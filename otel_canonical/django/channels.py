"""Route and consumer of Channels' websockets, from the connection scope that its router has made.

Lives where the app is loaded. Channels keeps the arguments of a route, but not its pattern: the route is
the path with those arguments named.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from otel_canonical.internal_errors import guarded
from otel_canonical.request.scope import open_scope

Consume = Callable[..., Awaitable[Any]]


def noting_consumer(consume: Consume) -> Consume:
    """Note route and view in `AsyncConsumer.__call__`, through which sync consumers pass, too."""

    async def note_and_consume(self: Any, scope: Any, *args: Any, **kwargs: Any) -> Any:
        """Note whose consumer this is, then run it."""
        with guarded("noting a consumer"):
            _note(type(self), scope)
        return await consume(self, scope, *args, **kwargs)

    return note_and_consume


def _note(consumer: type, asgi: Mapping[str, Any]) -> None:
    scope = open_scope()
    if scope is None or scope.view is not None:
        return
    scope.view = f"{consumer.__module__}.{consumer.__qualname__}"
    arguments = asgi.get("url_route", {}).get("kwargs", {})
    scope.url_kwargs = arguments
    scope.route = route_of(str(asgi.get("path", "")), arguments)
    if scope.observer is not None:
        scope.observer.progress(scope)


def route_of(path: str, arguments: Mapping[str, object]) -> str:
    """Return a path with its arguments named: `chat/<room>/`. A value must be a whole segment."""
    segments = path.lstrip("/").split("/")
    for name, value in arguments.items():
        text = str(value)
        if text and text in segments:
            segments[segments.index(text)] = f"<{name}>"
    return "/".join(segments) or "/"
