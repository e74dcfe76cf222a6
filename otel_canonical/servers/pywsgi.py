"""Adapter for gevent's own WSGI server, which Gunicorn's `gevent_pywsgi` worker runs.

Lives in the worker. That server calls none of Gunicorn's hooks and parses requests itself. It has one
handler for each connection, of a class that the worker names; we put a subclass in its place:

    accepted    `handle_one_response`, after the head was parsed
    first byte  the first `_sendall`
    ended       `handle_one_response` returns; it also answers what the application raises
    refused     `handle_one_request` returns an answer of the server's own
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_canonical.internal_errors import guarded
from otel_canonical.patching import patch
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.headers import RESPONSE_ID_HEADER, add_if_missing, as_meant
from otel_canonical.request.scope import RequestScope
from otel_canonical.request.server_timing import SERVER_TIMING_HEADER, server_timing
from otel_canonical.servers.gunicorn_objects import GONE
from otel_canonical.stacks import errors
from otel_canonical.stacks.errors import ErrorFacts


def is_pywsgi(worker: Any) -> bool:
    """Return whether a worker of Gunicorn's leaves its connections to gevent's server."""
    return getattr(worker, "wsgi_handler", None) is not None


def follow(worker: Any, log: CanonicalLog, runner: Callable[[], Any]) -> None:
    """Follow the requests of a worker.

    Args:
        worker: Gunicorn's, before it runs its server.
        log: told of them.
        runner: returns the greenlet that runs.
    """
    requests = _Requests(log, runner)
    patch(worker, "wsgi_handler", lambda base: _handler_class(base, requests))


class _Requests:
    """Opens and closes the scopes of the requests of one worker."""

    def __init__(self, log: CanonicalLog, runner: Callable[[], Any]) -> None:
        self._log = log
        self._runner = runner
        self._count = 0
        self.echoes_id = log.settings.response_request_id
        self.times = log.settings.server_timing
        #: Header names as an environ has them, and as the log does.
        self._names = {
            name.replace("-", "_")
            if name == "CONTENT-LENGTH"
            else f"HTTP_{name.replace('-', '_')}": name
            for name in log.header_names
        }

    def open(self, handler: Any) -> RequestScope | None:
        """Open the scope of a request whose head was parsed."""
        environ = handler.environ
        headers = {
            name: environ[key].strip() for key, name in self._names.items() if key in environ
        }
        path = as_meant(handler.path.partition("?")[0])
        scope = self._log.open(environ["REQUEST_METHOD"], path, headers, environ.get("REMOTE_ADDR"))
        if scope is None:
            return None
        scope.runner = self._runner()
        if environ["QUERY_STRING"]:
            scope.query_string = as_meant(environ["QUERY_STRING"])
        scope.scheme = environ.get("wsgi.url_scheme")
        scope.proto = environ["SERVER_PROTOCOL"].rpartition("/")[2]
        self._count += 1
        scope.worker_requests = self._count
        return scope

    def close(self, scope: RequestScope) -> None:
        """Close the scope of a request that was answered or given up."""
        self._log.close(scope)

    def refuse(self, handler: Any, status: int, error: ErrorFacts | None) -> None:
        """Note a request that the server answers without the application."""
        # Other attributes of the handler may be those of an earlier request on the connection.
        words = (handler.requestline or "").split()
        method, path = (words[0], words[1]) if len(words) == 3 else ("", "")
        client = handler.client_address
        scope = self._log.open(
            method,
            as_meant(path.partition("?")[0]),
            {},
            str(client[0]) if isinstance(client, tuple) and client else None,
        )
        if scope is not None:
            self._count += 1
            scope.worker_requests = self._count
            scope.note_refusal(status, error)
            self._log.close(scope)


def _handler_class(base: Any, requests: _Requests) -> Any:
    class CanonicalHandler(base):  # type: ignore[misc]
        """Gunicorn's handler, which opens and closes a scope for each request."""

        _scope: RequestScope | None = None
        _refusal: ErrorFacts | None = None

        def handle_one_request(self) -> Any:
            self._refusal = None
            result = super().handle_one_request()
            if isinstance(result, tuple):
                with guarded("noting a refused request"):
                    requests.refuse(self, int(result[0]), self._refusal)
            return result

        def handle_one_response(self) -> None:
            with guarded("opening a request"):
                self._scope = requests.open(self)
            try:
                super().handle_one_response()
            finally:
                scope, self._scope = self._scope, None
                if scope is not None:
                    with guarded("closing a request"):
                        requests.close(scope)

        def process_result(self) -> None:
            super().process_result()
            if self._scope is not None:
                self._scope.note_answered()

        def handle_error(self, kind: Any, error: Any, trace: Any) -> None:
            scope = self._scope
            if scope is not None:
                with guarded("describing a request that failed"):
                    scope.note_error(error)
            super().handle_error(kind, error, trace)

        def _handle_client_error(self, error: Any) -> Any:
            with guarded("describing a refused request"):
                self._refusal = errors.of_refusal(error)
                if self._scope is not None:
                    self._scope.error = self._scope.error or self._refusal
            return super()._handle_client_error(error)

        def finalize_headers(self) -> None:
            super().finalize_headers()
            scope = self._scope
            if requests.echoes_id and scope is not None:
                name, value = RESPONSE_ID_HEADER.encode(), scope.request_id.encode()
                add_if_missing(self.response_headers, name, value)
            if requests.times and scope is not None:
                with guarded("timing a response for browsers"):
                    name, value = SERVER_TIMING_HEADER.encode(), server_timing(scope).encode()
                    self.response_headers.append((name, value))

        def _sendall(self, data: Any) -> None:
            scope = self._scope
            try:
                super()._sendall(data)
            except OSError as error:
                if scope is not None and error.errno in GONE:
                    scope.client_gone = True
                raise
            if scope is not None and scope.first_byte_ns is None:
                with guarded("noting the head of a response"):
                    scope.note_head(self.code)

        def _write(self, data: Any) -> None:
            super()._write(data)
            if self._scope is not None and self._scope.bytes_written is not None:
                self._scope.bytes_written += len(data)

    return CanonicalHandler
