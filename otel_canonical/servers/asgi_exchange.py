"""One request and its response, as they pass between an ASGI server and its application.

Lives in the worker. Each message is passed on as it is, and its facts are noted in the request's scope:
status, bytes, first and last byte, whether the client is still there, what went wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from otel_canonical.event.http_conventions import INTERNAL_SERVER_ERROR
from otel_canonical.request.headers import RESPONSE_ID_HEADER, add_if_missing
from otel_canonical.request.scope import RequestScope
from otel_canonical.stacks.errors import ErrorFacts

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

#: Responses that have no body, whatever the application sends.
BODILESS = (204, 304)

#: How a websocket's handshake is answered, if it is accepted and if it is closed instead.
SWITCHING_PROTOCOLS = 101
FORBIDDEN = 403

#: What is raised in an application when its request is over.
OVER = (asyncio.CancelledError, OSError, GeneratorExit)


@dataclass(frozen=True, slots=True)
class Server:
    """The differences between servers.

    Attributes:
        holds_head: whether status and headers are sent with the first message of the body.
        answered: which of an application's errors it answers with a 500.
        is_leaving: whether the worker has been told to leave.
    """

    holds_head: bool
    answered: type[BaseException]
    is_leaving: Callable[[], bool]


class Exchange:
    """One HTTP request and its response, as they pass between server and application."""

    __slots__ = (
        "_echoes_id",
        "_receive",
        "_scope",
        "_send",
        "_server",
        "_status",
        "_transport",
        "holder",
        "is_complete",
        "receive",
    )

    def __init__(
        self, scope: RequestScope, server: Server, receive: Receive, send: Send, echoes_id: bool
    ) -> None:
        self._scope = scope
        self._server = server
        self._receive = receive
        self._send = send
        self._echoes_id = echoes_id
        self._status: int | None = None
        self.is_complete = False
        self.holder = getattr(receive, "__self__", None)
        self._transport = _transport_of(self.holder)
        # With a transport to ask there is no need to listen to what the server says.
        self.receive = receive if self._transport is not None else self._receive_and_note

    async def _receive_and_note(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.is_complete:
            self._scope.client_gone = True
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on to the server and note what it says."""
        # Asked before: after the last message the server may close the connection itself.
        self._look_at_client()
        if self._echoes_id and message["type"] == "http.response.start":
            message = self._with_id(message)
        try:
            await self._send(message)
        except OSError:
            # If that was the first message of the body, the head may or may not have been written.
            self._scope.client_gone = self._scope.client_gone or not self.is_complete
            raise
        if not self._scope.client_gone and not self.is_complete:
            self._note(message)

    def _note(self, message: Message) -> None:
        scope = self._scope
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            if not self._server.holds_head:
                self._note_head()
        elif kind == "http.response.body":
            body = message.get("body", b"")
            is_last = not message.get("more_body", False)
            if scope.first_byte_ns is None and (body or is_last):
                self._note_head()
            if body and scope.method != "HEAD" and self._status not in BODILESS:
                scope.bytes_written = (scope.bytes_written or 0) + len(body)
            if is_last:
                self.is_complete = True
                scope.ended_ns = time.monotonic_ns()

    def _note_head(self) -> None:
        scope = self._scope
        scope.first_byte_ns = time.monotonic_ns()
        scope.status = self._status
        scope.bytes_written = 0

    def refused(self, status: int, error: ErrorFacts | None) -> None:
        """Note that the server has answered, whatever the application is still going to do."""
        scope = self._scope
        if self.is_complete:
            return
        self.is_complete = True
        scope.note_refusal(status, error)
        scope.ended_ns = time.monotonic_ns()

    def returned(self) -> None:
        """Note that the application has returned, perhaps without an answer."""
        self._look_at_client()
        scope = self._scope
        if self.is_complete:
            scope.note_answered()
        elif self._status is None and scope.status is None and not scope.client_gone:
            scope.status = INTERNAL_SERVER_ERROR

    def failed(self, error: BaseException) -> None:
        """Note that the application has raised, or was cancelled."""
        scope = self._scope
        is_answered = isinstance(error, self._server.answered)
        if self.is_complete:
            scope.note_answered()
        elif self._is_given_up(error):
            scope.lost_cause = "shutdown"
        else:
            self._look_at_client()
            has_no_head = self._status is None or scope.proto == "2"
            if is_answered and has_no_head and scope.status is None and not scope.client_gone:
                # Nothing is written yet: the server answers.
                scope.status = INTERNAL_SERVER_ERROR
        # After its request is over an application is cancelled, or fails to send: not an error of it.
        is_over = self.is_complete or scope.client_gone or scope.lost_cause is not None
        if not (is_over and isinstance(error, OVER)):
            scope.note_error(error)
        self._abandon_if_collected(error)

    def _abandon_if_collected(self, error: BaseException) -> None:
        """Leave the current context as it is when the application is collected as garbage."""
        if isinstance(error, GeneratorExit) and self._scope.root is not None:
            # That happens in whatever context is current; it is not the request's.
            self._scope.root.abandon()

    def _is_given_up(self, error: BaseException) -> bool:
        """Return whether a worker that leaves has ended the request and its connection."""
        return (
            isinstance(error, asyncio.CancelledError)
            and not isinstance(error, self._server.answered)
            and not self._scope.client_gone
            and self._server.is_leaving()
        )

    def _look_at_client(self) -> None:
        if not self.is_complete and self._transport is not None and self._transport.is_closing():
            self._scope.client_gone = True

    def _with_id(self, message: Message) -> Message:
        headers = [(bytes(name), value) for name, value in message.get("headers", ())]
        # In lower case: ASGI asks for that.
        name, value = RESPONSE_ID_HEADER.lower().encode(), self._scope.request_id.encode()
        add_if_missing(headers, name, value)
        return {**message, "headers": headers}


class WebsocketExchange(Exchange):
    """A websocket: one request, from its handshake until the application has returned."""

    __slots__ = ()

    def __init__(
        self, scope: RequestScope, server: Server, receive: Receive, send: Send, echoes_id: bool
    ) -> None:
        super().__init__(scope, server, receive, send, echoes_id)
        self.holder = None
        self.receive = receive
        scope.is_exempt_from_slow = scope.is_exempt_from_deadline = True
        scope.bytes_written = 0

    async def send(self, message: Message) -> None:
        """Pass a message on to the server and note what it says."""
        await self._send(message)
        scope = self._scope
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

    def returned(self) -> None:
        """Do nothing: a websocket has no response that could be missing."""

    def failed(self, error: BaseException) -> None:
        """Note that the application has raised, or was cancelled."""
        scope = self._scope
        if isinstance(error, self._server.answered):
            scope.status = scope.status or INTERNAL_SERVER_ERROR
        if not isinstance(error, (asyncio.CancelledError, OSError)):
            scope.note_error(error)
        self._abandon_if_collected(error)


#: By the type of a connection scope; another type, `lifespan`, is no request.
EXCHANGES: Mapping[str, type[Exchange]] = {"http": Exchange, "websocket": WebsocketExchange}


def _transport_of(holder: Any) -> Any:
    """Return the transport below a `receive`, if its holder or the holder's protocol shows one."""
    transport = getattr(holder, "transport", None)
    if transport is None:
        transport = getattr(getattr(holder, "protocol", None), "transport", None)
    return transport if hasattr(transport, "is_closing") else None
