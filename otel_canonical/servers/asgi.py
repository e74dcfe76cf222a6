"""Adapter for ASGI applications: the messages between server and application describe a request.

Lives in the worker, for servers that call none of Gunicorn's hooks per request or pass them too few
facts. It wraps the application and depends on no server:

    accepted    the application is called
    first byte  the message with which the server writes the head
    ended       the last message of the body; without one, when the application has returned, was
                cancelled, or raised

A request that a server refuses never reaches the application; `asgi_servers` reports those.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import MutableMapping
from typing import Any

from otel_canonical.internal_errors import guarded
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.headers import as_meant
from otel_canonical.request.scope import RequestScope
from otel_canonical.servers.asgi_exchange import (
    AddedHeaders,
    Application,
    Exchange,
    Receive,
    Send,
    Server,
)
from otel_canonical.servers.asgi_websocket import EXCHANGES
from otel_canonical.stacks.errors import ErrorFacts


class AsgiAdapter:
    """Follows the requests of one worker and tells its canonical log."""

    def __init__(self, log: CanonicalLog, server: Server) -> None:
        self._log = log
        self._server = server
        settings = log.settings
        self._adds = AddedHeaders(settings.response_request_id, settings.server_timing)
        #: Header names as ASGI has them, and as the log does.
        self._wanted = {name.lower().encode("latin-1"): name for name in log.header_names}
        self._requests = 0
        #: Requests by the object that holds their `receive`: those that the application is serving,
        #: and those that the server has answered before it calls the application.
        self._served: dict[Any, Exchange] = {}
        self._refused: dict[Any, tuple[int, ErrorFacts | None]] = {}

    def around(self, application: Application) -> Application:
        """Return an ASGI 3 application that calls `application` and follows its requests."""

        async def application_with_canonical_log(
            asgi: MutableMapping[str, Any], receive: Receive, send: Send
        ) -> None:
            """Serve a request; lifespan events pass."""
            make_exchange = EXCHANGES.get(asgi["type"])
            scope: RequestScope | None = None
            if make_exchange is not None:
                with guarded("opening a request"):
                    scope = self._open(asgi)
            if make_exchange is None or scope is None:
                # `lifespan`, which is no request, or a URL that the operator excludes.
                await application(asgi, receive, send)
            else:
                close = functools.partial(self._close, scope, asgi)
                exchange = make_exchange(*(scope, self._server, receive, send), self._adds, close)
                await self._serve(application, exchange, scope, asgi)

        return application_with_canonical_log

    def refuse(
        self,
        holder: Any,
        status: int,
        parsed: MutableMapping[str, Any],
        error: ErrorFacts | None = None,
        *,
        is_coming: bool = False,
    ) -> None:
        """Note that the server answers a request by itself, and closes the connection.

        Args:
            holder: the object that holds the `receive` of the connection's current request, if
                any: an error in the body belongs to that request.
            status: of the answer.
            parsed: as much of an ASGI connection scope as could be read.
            error: what was wrong with it.
            is_coming: whether the application will still be called with that request.
        """
        exchange = self._served.get(holder) if holder is not None else None
        if exchange is not None:
            exchange.refused(status, error)
        elif is_coming:
            self._refused[holder] = status, error
        else:
            scope = self._open(parsed)
            if scope is not None:
                scope.note_refusal(status, error)
                self._close(scope, parsed)
                self._log.leave(scope)

    async def _serve(
        self,
        application: Application,
        exchange: Exchange,
        scope: RequestScope,
        asgi: MutableMapping[str, Any],
    ) -> None:
        holder = exchange.holder
        if holder is not None:
            self._served[holder] = exchange
            if self._refused and holder in self._refused:
                exchange.refused(*self._refused.pop(holder))
        try:
            await application(asgi, exchange.receive, exchange.send)
        except BaseException as error:
            with guarded("describing a request that failed"):
                exchange.failed(error)
            raise
        else:
            with guarded("describing a request that has ended"):
                exchange.returned()
        finally:
            if holder is not None:
                self._served.pop(holder, None)
            with guarded("closing a request"):
                self._close(scope, asgi)
                self._log.leave(scope)

    def _open(self, asgi: MutableMapping[str, Any]) -> RequestScope | None:
        wanted = self._wanted
        headers: dict[str, str] = {}
        for name, value in asgi.get("headers") or ():
            known = wanted.get(name)
            if known is not None and known not in headers:
                headers[known] = value.decode("latin-1")
        raw_path = asgi.get("raw_path")
        path = as_meant(raw_path.decode("latin-1")) if raw_path else asgi.get("path") or ""
        if self._server.prefixes_root and asgi.get("root_path"):
            path = path.removeprefix(asgi["root_path"]) or "/"
        method = asgi.get("method")
        if method is None:
            method = "GET" if asgi.get("type") == "websocket" else ""
        # At once, for the scoreboard: `lost` lines and `otel-canonical ps` show it.
        scope = self._log.open(method, path, headers, _client_of(asgi))
        if scope is None:
            return None
        # It is left in the task that it was opened in, behind the application.
        scope.is_left_later = True
        self._requests += 1
        scope.worker_requests = self._requests
        scope.runner = _current_task()
        scope.scheme = _text_in(asgi, "scheme")
        query = asgi.get("query_string")
        if query:
            scope.query_string = as_meant(query.decode("latin-1"))
        scope.proto = _text_in(asgi, "http_version")
        return scope

    def _close(self, scope: RequestScope, asgi: MutableMapping[str, Any]) -> None:
        if scope.is_claimed:
            return
        # Again at the end: middleware that trusts a proxy's headers sets the client after `_open`.
        scope.client = _client_of(asgi) or scope.client
        scope.scheme = _text_in(asgi, "scheme") or scope.scheme
        self._log.close(scope)


def _client_of(asgi: MutableMapping[str, Any]) -> str | None:
    """Return the address in `client`, None if it is no pair of address and port; the app may set anything."""
    client = asgi.get("client")
    if isinstance(client, (list, tuple)) and client and isinstance(client[0], str):
        return client[0]
    return None


def _text_in(asgi: MutableMapping[str, Any], name: str) -> str | None:
    value = asgi.get(name)
    return value if isinstance(value, str) else None


def _current_task() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:
        # A callback of the loop: the request was refused while it was parsed.
        return None
