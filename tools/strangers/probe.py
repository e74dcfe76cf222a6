"""An independent look at what a request did: a WSGI wrapper, a middleware, and Django's own query log.

Used in the sites of strangers only, beside otel-canonical, with which it shares nothing.
"""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

_current = threading.local()
#: Django logs these among the queries; they are no queries.
TRANSACTIONS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE SAVEPOINT")


def probed(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Wrap a WSGI application: note what the server is given."""

    def probe(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found: dict[str, Any] = {"req_id": environ.get("HTTP_X_REQUEST_ID"), "resp_bytes": 0}
        _current.found = found

        def start(status: str, *arguments: Any) -> Any:
            found["resp_status"] = int(status.split()[0])
            return start_response(status, *arguments)

        body = application(environ, start)
        try:
            for part in body:
                if environ["REQUEST_METHOD"] != "HEAD":
                    found["resp_bytes"] += len(part)
                yield part
        finally:
            if hasattr(body, "close"):
                body.close()
            with open(os.environ["PROBE_OUTPUT"], "a") as file:
                file.write(json.dumps(found) + "\n")

    return probe


class ProbeMiddleware:
    """Notes what Django says of a request; the outermost one."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        """Serve the request with Django's query log on."""
        from django.db import connections, reset_queries

        for connection in connections.all():
            connection.force_debug_cursor = True
        reset_queries()
        response = self.get_response(request)
        log = [query["sql"] for connection in connections.all() for query in connection.queries_log]
        found = _current.found
        found["db_queries"] = sum(not sql.startswith(TRANSACTIONS) for sql in log)
        found["transactions"] = len(log) - found["db_queries"]
        match = request.resolver_match
        if match is not None:
            found["req_route"] = match.route or "/"
            found["views"] = sorted(_names(match.func, request.method))
        user = request.__dict__.get("_cached_user") or request.__dict__.get("user")
        if user is not None and type(user).__name__ == "User" and user.pk is not None:
            found["user_id"] = str(user.pk)
        return response


def _names(view: Any, method: str) -> set[str]:
    """Return what the author of a view may call it; a view set has an action for each method."""
    names = set()
    while isinstance(view, functools.partial):
        view = view.func
    wrapped = [view]
    while (view := getattr(view, "__wrapped__", None)) is not None:
        wrapped.append(view)
    for candidate in wrapped:
        kind = getattr(candidate, "view_class", None) or getattr(candidate, "cls", None)
        if kind is not None:
            action = (getattr(candidate, "actions", None) or {}).get(method.lower())
            names.add(f"{kind.__qualname__}.{action}" if action else kind.__qualname__)
        owner = getattr(candidate, "__self__", None)
        if owner is not None:
            names.add(f"{type(owner).__qualname__}.{candidate.__name__}")
        name = getattr(candidate, "__qualname__", type(candidate).__qualname__)
        names.add(name.rpartition("<locals>.")[2])
    return names
