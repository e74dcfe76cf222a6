"""One websocket, as its messages pass between an ASGI server and its application.

Lives in the worker. A websocket is one request, from its handshake until either side has closed it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from otel_canonical.event.http_conventions import INTERNAL_SERVER_ERROR
from otel_canonical.internal_errors import guarded
from otel_canonical.request.scope import RequestScope
from otel_canonical.request.tallies import WebsocketTally
from otel_canonical.servers.asgi_exchange import (
    AddedHeaders,
    Exchange,
    Message,
    Receive,
    Send,
    Server,
)

#: How a websocket's handshake is answered, if it is accepted and if it is closed instead.
SWITCHING_PROTOCOLS = 101
FORBIDDEN = 403

#: The code of a close that names none (RFC 6455, 7.4.1; ASGI's default).
NORMAL_CLOSURE = 1000


class WebsocketExchange(Exchange):
    """A websocket: one request, from its handshake until the application has returned."""

    __slots__ = ("_tally",)

    def __init__(
        self,
        scope: RequestScope,
        server: Server,
        receive: Receive,
        send: Send,
        adds: AddedHeaders,
        close: Callable[[], None],
    ) -> None:
        super().__init__(scope, server, receive, send, adds, close)
        self.holder = None
        self.receive = self._receive_and_count
        self._tally = scope.websocket = WebsocketTally()
        scope.is_exempt_from_slow = scope.is_exempt_from_deadline = True
        scope.bytes_written = 0

    async def _receive_and_count(self) -> Message:
        message = await self._receive()
        kind = message["type"]
        if kind == "websocket.receive":
            self._tally.received += 1
        elif kind == "websocket.disconnect":
            self._note_code(message)
        return message

    def _note_code(self, message: Message) -> None:
        # The side that closes first says why.
        code = message.get("code", NORMAL_CLOSURE)
        if self._tally.close_code is None and isinstance(code, int):
            self._tally.close_code = code

    async def send(self, message: Message) -> None:
        """Pass a message on to the server and note what it says."""
        if message.get("type") == "websocket.close" and self._scope.status == SWITCHING_PROTOCOLS:
            self._note_code(message)
        await self._send(message)
        scope = self._scope
        kind = message["type"]
        if kind == "websocket.send":
            text = message.get("text")
            body = message.get("bytes") or b"" if text is None else text.encode()
            scope.bytes_written = (scope.bytes_written or 0) + len(body)
            self._tally.sent += 1
        elif scope.first_byte_ns is None:
            scope.first_byte_ns = time.monotonic_ns()
            if kind == "websocket.accept":
                scope.status = SWITCHING_PROTOCOLS
            elif kind == "websocket.http.response.start":
                scope.status = message["status"]
            else:
                scope.status = FORBIDDEN
        if kind == "websocket.close":
            self.is_complete = True
            scope.ended_ns = time.monotonic_ns()
            with guarded("closing a request"):
                self._close()

    def returned(self) -> None:
        """Note that the application has returned, perhaps without accepting the handshake."""
        scope = self._scope
        if scope.first_byte_ns is None and not scope.is_claimed:
            scope.status = self._server.unaccepted

    def failed(self, error: BaseException) -> None:
        """Note that the application has raised, or was cancelled."""
        scope = self._scope
        self.abandon_if_collected(error)
        if scope.is_claimed:
            return
        if isinstance(error, self._server.answered):
            scope.status = scope.status or INTERNAL_SERVER_ERROR
        if not isinstance(error, (asyncio.CancelledError, OSError)):
            scope.note_error(error)


#: By the type of a connection scope; another type, `lifespan`, is no request.
EXCHANGES: Mapping[str, type[Exchange]] = {"http": Exchange, "websocket": WebsocketExchange}
