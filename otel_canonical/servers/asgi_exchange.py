"""One request and its response, as they pass between an ASGI server and its application.

Lives in the worker. Each message is passed on as it is, and its facts are noted in the request's scope:
status, bytes, first and last byte, whether the client is still there, what went wrong. The request ends
with the last byte. What the application does behind that, background tasks for example, is not counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from otel_canonical.event.http_conventions import INTERNAL_SERVER_ERROR
from otel_canonical.internal_errors import guarded
from otel_canonical.request.headers import LENGTH_DIGITS, RESPONSE_ID_HEADER
from otel_canonical.request.scope import RequestScope
from otel_canonical.request.server_timing import SERVER_TIMING_HEADER, server_timing
from otel_canonical.stacks.errors import ErrorFacts

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

#: Responses that have no body, whatever the application sends.
BODILESS = (204, 304)

#: What is raised in an application when its request is over.
OVER = (asyncio.CancelledError, OSError, GeneratorExit)


@dataclass(frozen=True, slots=True)
class Server:
    """The differences between servers.

    Attributes:
        holds_head: whether status and headers are sent with the first message of the body.
        answered: which of an application's errors it answers with a 500.
        is_leaving: whether the worker has been told to leave.
        unaccepted: how it answers a websocket's handshake if the application returns without a word.
        cuts_body: whether it sends no more than the application's `Content-Length` has announced.
        prefixes_root: whether the paths that it passes on begin with its own `root_path`.
    """

    holds_head: bool
    answered: type[BaseException]
    is_leaving: Callable[[], bool]
    unaccepted: int
    cuts_body: bool
    prefixes_root: bool


class AddedHeaders(NamedTuple):
    """Which headers are added to responses: the request's id, and what took time."""

    request_id: bool
    server_timing: bool


class Exchange:
    """One HTTP request and its response, as they pass between server and application.

    Args:
        scope: the request's.
        server: what is special about the server.
        receive: the server's, as ASGI has it.
        send: the server's, as ASGI has it.
        adds: which headers the response gets.
        close: writes the request's line; called at the last byte.
    """

    __slots__ = (
        "_adds",
        "_close",
        "_left",
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
        self,
        scope: RequestScope,
        server: Server,
        receive: Receive,
        send: Send,
        adds: AddedHeaders,
        close: Callable[[], None],
    ) -> None:
        self._scope = scope
        self._server = server
        self._receive = receive
        self._send = send
        self._adds = adds
        self._close = close
        self._status: int | None = None
        #: How many bytes of the body the server will still send, as far as the application has said so.
        self._left: int | None = None
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
        if any(self._adds) and message["type"] == "http.response.start":
            message = self._with_headers(message)
        scope = self._scope
        try:
            await self._send(message)
        except OSError:
            if not self.is_complete:
                scope.client_gone = True
                # An HTTP/2 stream that is reset while its first bytes are sent has had its head.
                if scope.proto == "2" and scope.first_byte_ns is None and self._status is not None:
                    self._note_head()
            raise
        if not scope.client_gone and not self.is_complete and self._note(message):
            scope.note_answered()
            with guarded("closing a request"):
                self._close()

    def _note(self, message: Message) -> bool:
        """Note what a message says; return whether it was the last."""
        scope = self._scope
        kind = message["type"]
        if kind == "http.response.start":
            if self._status is not None:
                return False
            self._status = message["status"]
            if not self._server.holds_head:
                self._note_head()
            if self._server.cuts_body and scope.proto != "2":
                with guarded("reading the headers of a response"):
                    self._left = _announced(message.get("headers") or ())
        elif kind == "http.response.body":
            body = message.get("body", b"")
            is_last = not message.get("more_body", False)
            if scope.first_byte_ns is None and (body or is_last):
                self._note_head()
            if body and scope.method != "HEAD" and self._status not in BODILESS:
                size = len(body)
                if self._left is not None:
                    size = min(size, self._left)
                    self._left -= size
                scope.bytes_written = (scope.bytes_written or 0) + size
            if is_last:
                self.is_complete = True
                scope.ended_ns = time.monotonic_ns()
        return self.is_complete

    def _note_head(self) -> None:
        if self._status is not None:
            with guarded("noting the head of a response"):
                self._scope.note_head(self._status)

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
        if self.is_complete:
            return
        self._look_at_client()
        scope = self._scope
        if self._status is None and scope.status is None and not scope.client_gone:
            scope.status = INTERNAL_SERVER_ERROR

    def failed(self, error: BaseException) -> None:
        """Note that the application has raised, or was cancelled."""
        scope = self._scope
        self.abandon_if_collected(error)
        if scope.is_claimed:
            # The line is written. What is raised behind the last byte is no failure of the request.
            return
        is_answered = isinstance(error, self._server.answered)
        if self._is_given_up(error):
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

    def abandon_if_collected(self, error: BaseException) -> None:
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

    def _with_headers(self, message: Message) -> Message:
        headers = message.get("headers") or ()
        with guarded("adding headers to a response"):
            # Any iterable, which may be read only once, of names that may be of any type.
            headers = list(headers)
            # In lower case: ASGI asks for that.
            name = RESPONSE_ID_HEADER.lower()
            if self._adds.request_id and not any(_lower(pair[0]) == name for pair in headers):
                headers.append((name.encode(), self._scope.request_id.encode()))
            if self._adds.server_timing:
                name = SERVER_TIMING_HEADER.lower()
                headers.append((name.encode(), server_timing(self._scope).encode()))
        return {**message, "headers": headers}


def _transport_of(holder: Any) -> Any:
    """Return the transport below a `receive`, if its holder or the holder's protocol shows one."""
    transport = getattr(holder, "transport", None)
    if transport is None:
        transport = getattr(getattr(holder, "protocol", None), "transport", None)
    return transport if hasattr(transport, "is_closing") else None


def _lower(name: Any) -> str:
    """Return a header's name in small letters, whatever type the application has given it."""
    text = name if isinstance(name, str) else bytes(name).decode("latin-1")
    return text.lower()


def _announced(headers: Any) -> int | None:
    """Return the `Content-Length` of a response that has no `Transfer-Encoding`; None without one."""
    if not isinstance(headers, (list, tuple)):
        return None  # an iterator can be read only once
    found: int | None = None
    for name, value in headers:
        known = _lower(name)
        if known == "transfer-encoding":
            return None
        if known == "content-length":
            text = value if isinstance(value, str) else bytes(value).decode("latin-1")
            found = int(text) if text.isdecimal() and len(text) <= LENGTH_DIGITS else None
    return found
