"""Adapter for Gunicorn's workers: which of their calls open a request, describe it and end it.

Lives in the worker. Nothing here imports Gunicorn: the worker is passed in, and modules are looked up
in `sys.modules`. The calls are the same in versions 23 to 27:

    accepted    hook `pre_request`, after the head was parsed
    first byte  `Response.send_headers`
    ended       hook `post_request`, unless it runs because of an error that is answered later
    answered    `Worker.handle_error`, which answers errors of the app, and refuses malformed requests
                for which no hook runs
    left        `Worker.handle` returns: a request that is still open ends here
"""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from otel_canonical.event.http_conventions import INTERNAL_SERVER_ERROR
from otel_canonical.internal_errors import current_error, guarded, report_caught
from otel_canonical.patching import patch
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.headers import RESPONSE_ID_HEADER, add_if_missing, as_meant
from otel_canonical.request.scope import RequestScope, current_scope
from otel_canonical.request.server_timing import SERVER_TIMING_HEADER, server_timing
from otel_canonical.servers import gunicorn_objects
from otel_canonical.stacks import errors

#: As semantic conventions spell `network.protocol.version`.
_PROTOCOLS = {(1, 0): "1.0", (1, 1): "1.1", (2, 0): "2"}

#: How Gunicorn says that an HTTP/2 client has reset a stream, or left.
STREAM_GONE = ("HTTP2StreamError", "HTTP2ConnectionError")


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
        self._times = log.settings.server_timing
        # Tornado's worker has no `handle`.
        patch(worker, "handle", self._closing_at_end, is_optional=True)
        patch(worker, "handle_error", self._closing_with_answer)
        if runner is not None:
            patch(worker, "handle_request", self._closing_given_up, is_optional=True)
        http, util = (sys.modules.get(name) for name in ("gunicorn.http.wsgi", "gunicorn.util"))
        if http is not None:
            patch(http.Response, "send_headers", self._noting_first_byte)
            patch(http.Response, "sendfile", gunicorn_objects.counting_sendfile, is_optional=True)
        if util is not None:
            patch(util, "write_error", self._noting_status)

    def pre_request(self, worker: Any, req: Any) -> None:
        """Open the scope of the request whose head Gunicorn has just read; a hook of Gunicorn's."""
        try:
            left_open = current_scope.get()
            if left_open is not None:
                self._log.close(left_open)
            scope = self._open(req)
            # Behind the opening: a worker told to quit in between has seen no request.
            req._otel_canonical_seen = True
            if scope is not None:
                scope.outer_error = current_error()
        except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
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
                if scope.is_aborted:
                    scope.note_answered()
            elif self._is_still_answered(scope, error):
                return
            scope.worker_requests = self._worker.nr
            self._log.close(scope)
        except Exception as failure:  # noqa: BLE001  # guarded, see `report_caught`
            report_caught("closing a request", failure)

    def _is_still_answered(self, scope: RequestScope, error: BaseException) -> bool:
        """Note what is on its way through Gunicorn; return whether Gunicorn will answer it."""
        cause: BaseException | None = error
        if scope.proto == "2":
            # Of a connection only a stream has failed: it is reset, or gets its 500 behind this.
            if type(error).__name__ in STREAM_GONE:
                scope.client_gone = True
            else:
                scope.note_error(error)
                scope.status = scope.status or INTERNAL_SERVER_ERROR
            return False
        if isinstance(error, StopIteration):
            # Gunicorn's way to leave a connection; an error that cut a begun response is behind it.
            cause = error.__context__
        elif not gunicorn_objects.is_final(error):
            scope.note_error(error)
            return True
        if cause is not None and gunicorn_objects.is_client_gone(cause):
            scope.client_gone = True
        elif cause is not None:
            scope.note_error(cause)
        return False

    def _open(self, req: Any) -> RequestScope | None:
        try:
            sent, peer, behind = req.headers, req.peer_addr, req.proxy_protocol_info
            method, path, query = req.method, req.path, req.query
            scheme, version = req.scheme, req.version
        except AttributeError:
            # Of another kind, or refused before it was read: what there is of it.
            found = [getattr(req, name, None) for name in gunicorn_objects.REQUEST_FACTS]
            sent, peer, behind, method, path, query, scheme, version = found
        wanted = self._log.header_names
        headers: dict[str, str] = {}
        for name, value in sent or ():
            if name in wanted and name not in headers:
                headers[name] = value
        client = peer[0] if isinstance(peer, tuple) and peer else None
        if behind:
            client = behind["client_addr"]
        if path is None or not path.isascii():
            path = gunicorn_objects.path_of(req)
        scope = self._log.open(method or "", path, headers, client)
        if scope is None:
            return None
        if self._runner is not None:
            scope.runner = self._runner()
        if query:
            scope.query_string = as_meant(query)
        scope.scheme = scheme
        if version:
            scope.proto = _PROTOCOLS.get(version) or f"{version[0]}.{version[1]}"
        return scope

    def _close(self, scope: RequestScope) -> None:
        scope.worker_requests = self._worker.nr
        self._log.close(scope)

    def _closing_at_end(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        """Close in `Worker.handle`: a request can't outlive the handling of its connection."""

        def handle_and_close(*args: Any) -> Any:
            try:
                return handle(*args)
            finally:
                scope = current_scope.get()
                if scope is not None:
                    with guarded("closing a request that nobody answered"):
                        self._close(scope)

        return handle_and_close

    def _closing_given_up(self, handle_request: Callable[..., Any]) -> Callable[..., Any]:
        """Close in `handle_request` of gevent's worker, which catches what ends a greenlet."""

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

    def _closing_with_answer(self, handle_error: Callable[..., Any]) -> Callable[..., Any]:
        """Close in `Worker.handle_error`: the answer to an error is the end of its request."""

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
            if isinstance(exc, ssl.SSLError):
                # A handshake that failed is no request.
                return None
            scope = self._open(gunicorn_objects.refused_request(exc))
            if scope is not None:
                scope.error = errors.of_refusal(exc)
                if isinstance(addr, tuple) and addr:
                    scope.client = addr[0]
        elif scope is None and not hasattr(req, "_otel_canonical_seen"):
            # The worker was told to quit after it had read the head and before it called the hook.
            scope = self._open(req)
        if scope is not None:
            scope.note_error(exc)
        return scope

    def _noting_first_byte(self, send_headers: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Note the first byte in `Response.send_headers`."""

        def send_headers_and_note(resp: Any) -> Any:
            if resp.headers_sent:
                return send_headers(resp)
            scope = current_scope.get()
            if scope is None:
                return send_headers(resp)
            if self._echoes_id:
                add_if_missing(resp.headers, RESPONSE_ID_HEADER, scope.request_id)
            if self._times:
                with guarded("timing a response for browsers"):
                    resp.headers.append((SERVER_TIMING_HEADER, server_timing(scope)))
            result = send_headers(resp)
            scope.first_byte_ns = time.monotonic_ns()
            try:
                scope.status = status = resp.status_code
                slot = scope.slot
                # As `Slot.set_status` does, without its call.
                if slot is not None and slot.started_ns == scope.started_ns:
                    slot.quarters[slot.status_at] = status
            except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
                report_caught("noting the status of a response", error)
            return result

        return send_headers_and_note

    def _noting_status(self, write_error: Callable[..., Any]) -> Callable[..., Any]:
        """Note the status in `util.write_error`, by which Gunicorn answers without the app."""

        def write_error_and_note(sock: Any, status_int: int, reason: str, mesg: str) -> Any:
            result = write_error(sock, status_int, reason, mesg)
            scope = current_scope.get()
            if scope is not None:
                scope.note_refusal(status_int)
            return result

        return write_error_and_note
