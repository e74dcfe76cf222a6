"""The seam to ASGI: what an application is asked and what it sends opens, describes and ends a request.

Lives in the worker, for servers that call none of Gunicorn's hooks per request or tell them too
little. It stands between server and application, knows neither, and sees what both say:

    accepted    the application is called
    first byte  the message with which the server writes the head
    last byte   the last message of the body
    ended       the application has returned, was cancelled, or raised

What a server refuses by itself never gets here; `asgi_servers` tells of that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any

from otel_canonical.internal_errors import guarded
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.composer import as_meant
from otel_canonical.request.scope import RequestScope
from otel_canonical.servers.asgi_exchange import (
    SERVER_ERROR,
    Application,
    Exchange,
    Message,
    Receive,
    Send,
    Server,
    forget_if_foreign,
    note_error,
)
from otel_canonical.stacks.errors import ErrorFacts

#: How a websocket's handshake is answered, if it is accepted and if it is closed instead.
SWITCHING_PROTOCOLS = 101
FORBIDDEN = 403


class AsgiAdapter:
    """Follows the requests of one worker and tells its canonical log."""

    def __init__(self, log: CanonicalLog, server: Server) -> None:
        self._log = log
        self._server = server
        self._echoes_id = log.settings.response_request_id
        #: Header names as ASGI has them, and as the log does.
        self._wanted = {name.lower().encode("latin-1"): name for name in log.header_names}
        self._requests = 0
        #: Requests by who holds their `receive`: those that the application is at, and those that
        #: the server has answered before it calls the application.
        self._served: dict[Any, Exchange] = {}
        self._refused: dict[Any, tuple[int, ErrorFacts | None]] = {}

    def around(self, application: Application) -> Application:
        """Return the application with the seam around it, an ASGI 3 application like it."""
        kinds = {"http": self._serve, "websocket": self._serve_websocket}

        async def application_with_canonical_log(
            asgi: MutableMapping[str, Any], receive: Receive, send: Send
        ) -> None:
            """Serve a request; lifespan events pass."""
            serve = kinds.get(asgi["type"])
            scope: RequestScope | None = None
            if serve is not None:
                with guarded("opening a request"):
                    scope = self._open(asgi)
            if serve is None or scope is None:
                # `lifespan`, which is no request, or a URL that the operator excludes.
                await application(asgi, receive, send)
            else:
                await serve(application, scope, asgi, receive, send)

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
            holder: who holds the `receive` of the request that the connection is at, if any: an
                error in the body of a request is its own, not another request's.
            status: of the answer.
            parsed: as much of an ASGI connection scope as could be read.
            error: what was wrong with it.
            is_coming: whether the application will be called with that request all the same.
        """
        exchange = self._served.get(holder) if holder is not None else None
        if exchange is not None:
            exchange.refused(status, error)
        elif is_coming:
            self._refused[holder] = status, error
        else:
            scope = self._open(parsed)
            if scope is not None:
                scope.status = status
                scope.error = error
                scope.first_byte_ns = time.monotonic_ns()
                self._close(scope, parsed)

    async def _serve(
        self,
        application: Application,
        scope: RequestScope,
        asgi: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        exchange = Exchange(scope, self._server, receive, send, self._echoes_id)
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

    async def _serve_websocket(
        self,
        application: Application,
        scope: RequestScope,
        asgi: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve a websocket: one request, from its handshake until the application is done with it."""
        scope.is_exempt_from_slow = scope.is_exempt_from_deadline = True
        scope.bytes_written = 0

        async def send_and_note(message: Message) -> None:
            await send(message)
            kind = message["type"]
            if kind == "websocket.send":
                text = message.get("text")
                body = message.get("bytes") or b"" if text is None else text.encode()
                scope.bytes_written = (scope.bytes_written or 0) + len(body)
            elif scope.first_byte_ns is None:
                scope.first_byte_ns = time.monotonic_ns()
                if kind == "websocket.accept":
                    scope.status = SWITCHING_PROTOCOLS
                elif kind == "websocket.http.response.start":
                    scope.status = message["status"]
                else:
                    scope.status = FORBIDDEN

        try:
            await application(asgi, receive, send_and_note)
        except BaseException as error:
            with guarded("describing a websocket that failed"):
                if isinstance(error, self._server.answered):
                    scope.status = scope.status or SERVER_ERROR
                if not isinstance(error, (asyncio.CancelledError, OSError)):
                    note_error(scope, error)
                forget_if_foreign(scope, error)
            raise
        finally:
            with guarded("closing a request"):
                self._close(scope, asgi)

    def _open(self, asgi: MutableMapping[str, Any]) -> RequestScope | None:
        wanted = self._wanted
        headers: dict[str, str] = {}
        for name, value in asgi.get("headers") or ():
            known = wanted.get(name)
            if known is not None and known not in headers:
                headers[known] = value.decode("latin-1")
        raw_path = asgi.get("raw_path")
        path = as_meant(raw_path.decode("latin-1")) if raw_path else asgi.get("path") or ""
        method = asgi.get("method")
        if method is None:
            method = "GET" if asgi.get("type") == "websocket" else ""
        scope = self._log.open(method, path, headers)
        if scope is None:
            return None
        self._requests += 1
        scope.worker_requests = self._requests
        scope.runner = _current_task()
        _note_client(scope, asgi)
        query = asgi.get("query_string")
        if query:
            scope.query_string = as_meant(query.decode("latin-1"))
        scope.proto = asgi.get("http_version")
        return scope

    def _close(self, scope: RequestScope, asgi: MutableMapping[str, Any]) -> None:
        # Again at the end: what a proxy in front says of the client is put there on the way in.
        _note_client(scope, asgi)
        self._log.close(scope)


def _note_client(scope: RequestScope, asgi: MutableMapping[str, Any]) -> None:
    client = asgi.get("client")
    if client:
        scope.client = client[0]
    scope.scheme = asgi.get("scheme")


def _current_task() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:
        # Refused while it was parsed, in a callback of the loop.
        return None
