"""The seam to Gunicorn in a worker: which of its moments open a request, describe it and end it.

Nothing here imports Gunicorn; it is handed its worker, its modules are looked up where they already
are. Versions 23 to 27 are served by the same moments:

    accepted    hook `pre_request`, after the head was parsed
    first byte  `Response.send_headers`
    ended       hook `post_request`, unless an error is on its way to
    answered    `Worker.handle_error`, which answers the errors of the app and refuses malformed
                requests, that never saw a hook
    left        `Worker.handle` returns: what none of these ended, ends here
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from otel_canonical.internal_errors import guarded, report_caught
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.composer import as_meant
from otel_canonical.request.scope import RequestScope, current_scope
from otel_canonical.servers import gunicorn_objects
from otel_canonical.stacks import errors

#: As semantic conventions spell `network.protocol.version`.
_PROTOCOLS = {(1, 0): "1.0", (1, 1): "1.1", (2, 0): "2"}

#: How Gunicorn says that an HTTP/2 client has reset a stream, or left.
STREAM_GONE = ("HTTP2StreamError", "HTTP2ConnectionError")

SERVER_ERROR = 500

#: Marks a request of Gunicorn's whose scope was opened, or is not wanted.
_SEEN = "_otel_canonical_seen"


class GunicornAdapter:
    """Follows the requests of one worker and tells its canonical log.

    Args:
        worker: Gunicorn's.
        log: told of its requests.
        runner: returns the greenlet that runs; None where a thread serves one request at a time.

    """

    def __init__(
        self, worker: Any, log: CanonicalLog, runner: Callable[[], Any] | None = None
    ) -> None:
        self._worker = worker
        self._log = log
        self._runner = runner
        self._echoes_id = log.settings.response_request_id
        wrapped = (
            ("handle", "handle_error")
            if runner is None
            else ("handle", "handle_error", "handle_request")
        )
        for name in wrapped:
            if hasattr(worker, name):
                setattr(worker, name, getattr(self, "_" + name)(getattr(worker, name)))
        _wrap(sys.modules.get("gunicorn.http.wsgi"), "Response.send_headers", self._send_headers)
        _wrap(sys.modules.get("gunicorn.util"), "write_error", self._write_error)

    def pre_request(self, worker: Any, req: Any) -> None:
        """Open the scope of the request whose head Gunicorn has just read; a hook of Gunicorn's."""
        try:
            left_open = current_scope.get()
            if left_open is not None:
                self._log.close(left_open)
            scope = self._open(req)
            # Behind the opening: a worker told to quit in between has seen no request.
            setattr(req, _SEEN, True)
            if scope is not None:
                scope.outer_error = sys.exc_info()[1]
        except Exception as error:  # noqa: BLE001  # a fence, see `report_caught`
            report_caught("opening a request", error)

    def post_request(
        self, environ: Mapping[str, Any] | None, resp: Any, error: BaseException | None
    ) -> None:
        """Close the scope, unless `error`, on its way through Gunicorn, will still be answered."""
        scope = current_scope.get()
        if scope is None:
            return
        try:
            if environ is not None and (client := environ.get("REMOTE_ADDR")):
                scope.client = client
            if resp is not None and resp.headers_sent:
                scope.status = resp.status_code
                scope.bytes_written = resp.sent or gunicorn_objects.body_bytes(resp)
            if error is None or error is scope.outer_error:
                # Told to die, and answered all the same.
                scope.is_aborted = False
            elif self._is_still_answered(scope, error):
                return
            scope.worker_requests = self._worker.nr
            self._log.close(scope)
        except Exception as failure:  # noqa: BLE001  # a fence, see `report_caught`
            report_caught("closing a request", failure)

    def _is_still_answered(self, scope: RequestScope, error: BaseException) -> bool:
        """Note what is on its way through Gunicorn; return whether Gunicorn will answer it."""
        cause: BaseException | None = error
        if scope.proto == "2":
            # Of a connection only a stream has failed: it is reset, or gets its 500 behind this.
            if type(error).__name__ in STREAM_GONE:
                scope.client_gone = True
            else:
                self._note_error(scope, error)
                scope.status = scope.status or SERVER_ERROR
            return False
        if isinstance(error, StopIteration):
            # Gunicorn's way to leave a connection; an error that cut a begun response is behind it.
            cause = error.__context__
        elif not gunicorn_objects.is_final(error):
            self._note_error(scope, error)
            return True
        if cause is not None and gunicorn_objects.is_client_gone(cause):
            scope.client_gone = True
        elif cause is not None:
            self._note_error(scope, cause)
        return False

    def _note_error(self, scope: RequestScope, error: BaseException) -> None:
        # The SystemExit of an abort is how Gunicorn ends the worker, not what went wrong.
        if scope.error is None and not scope.is_aborted:
            scope.error = errors.of_error(error)

    def _open(self, req: Any) -> RequestScope | None:
        wanted = self._log.header_names
        headers: dict[str, str] = {}
        for name, value in getattr(req, "headers", None) or ():
            if name in wanted and name not in headers:
                headers[name] = value
        peer = getattr(req, "peer_addr", None)
        client = peer[0] if isinstance(peer, tuple) and peer else None
        path = getattr(req, "path", None)
        if path is None or not path.isascii():
            path = gunicorn_objects.path_of(req)
        scope = self._log.open(getattr(req, "method", None) or "", path, headers, client)
        if scope is None:
            return None
        if self._runner is not None:
            scope.runner = self._runner()
        if query := getattr(req, "query", None):
            scope.query_string = as_meant(query)
        scope.scheme = getattr(req, "scheme", None)
        version = getattr(req, "version", None)
        if version:
            scope.proto = _PROTOCOLS.get(version) or f"{version[0]}.{version[1]}"
        return scope

    def _close(self, scope: RequestScope) -> None:
        scope.worker_requests = self._worker.nr
        self._log.close(scope)

    def _handle(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `Worker.handle`: a request can't outlive the handling of its connection."""

        @functools.wraps(handle)
        def handle_and_close(*args: Any) -> Any:
            try:
                return handle(*args)
            finally:
                scope = current_scope.get()
                if scope is not None:
                    with guarded("closing a request that nobody answered"):
                        self._close(scope)

        return handle_and_close

    def _handle_request(self, handle_request: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `handle_request` of gevent's worker, which keeps to itself what ends a greenlet."""

        @functools.wraps(handle_request)
        def handle_request_and_close(*args: Any) -> Any:
            result = handle_request(*args)
            scope = current_scope.get()
            if scope is not None:
                with guarded("closing a request that was given up"):
                    if not scope.is_aborted and not self._worker.alive:
                        # Its greenlet was killed: the time to leave was over.
                        scope.lost_cause, scope.error = "shutdown", None
                    self._close(scope)
            return result

        return handle_request_and_close

    def _handle_error(self, handle_error: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `Worker.handle_error`: the answer to an error is the end of its request."""

        @functools.wraps(handle_error)
        def handle_error_and_close(req: Any, client: Any, addr: Any, exc: BaseException) -> Any:
            scope = current_scope.get()
            with guarded("describing a request that failed"):
                scope = self._scope_of_error(scope, req, addr, exc)
            try:
                return handle_error(req, client, addr, exc)
            finally:
                if scope is not None:
                    with guarded("closing a request that failed"):
                        self._close(scope)

        return handle_error_and_close

    def _scope_of_error(
        self, scope: RequestScope | None, req: Any, addr: Any, exc: BaseException
    ) -> RequestScope | None:
        if scope is None and req is None:
            scope = self._open(gunicorn_objects.refused_request(exc))
            if scope is not None:
                scope.error = errors.of_refusal(exc)
                if isinstance(addr, tuple) and addr:
                    scope.client = addr[0]
        elif scope is None and not hasattr(req, _SEEN):
            # Between its head and the hook: the worker was told to quit.
            scope = self._open(req)
        if scope is not None:
            self._note_error(scope, exc)
        return scope

    def _send_headers(self, send_headers: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `Response.send_headers`: the first byte."""

        @functools.wraps(send_headers)
        def send_headers_and_note(resp: Any) -> Any:
            if resp.headers_sent:
                return send_headers(resp)
            scope = current_scope.get()
            if scope is None:
                return send_headers(resp)
            if self._echoes_id and not any(k.lower() == "x-request-id" for k, _ in resp.headers):
                resp.headers.append(("X-Request-ID", scope.request_id))
            result = send_headers(resp)
            scope.first_byte_ns = time.monotonic_ns()
            return result

        return send_headers_and_note

    def _write_error(self, write_error: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `util.write_error`: the status of an answer that Gunicorn makes itself."""

        @functools.wraps(write_error)
        def write_error_and_note(sock: Any, status_int: int, reason: str, mesg: str) -> Any:
            result = write_error(sock, status_int, reason, mesg)
            scope = current_scope.get()
            if scope is not None and scope.first_byte_ns is None:
                scope.first_byte_ns = time.monotonic_ns()
                scope.status = status_int
            return result

        return write_error_and_note


def _wrap(owner: Any, path: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent, None)
    function = getattr(owner, name, None)
    if function is not None:
        setattr(owner, name, wrap(function))
