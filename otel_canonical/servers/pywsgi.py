"""The seam to gevent's own WSGI server, which Gunicorn's `gevent_pywsgi` worker runs.

Lives in the worker. That server calls none of Gunicorn's hooks and parses for itself; it has one handler
for each connection, of a class that the worker names. Ours is that class, and at its moments:

    accepted    `handle_one_response`, after the head was parsed
    first byte  the first `_sendall`
    ended       `handle_one_response` returns; it answers what the application raises, too
    refused     `handle_one_request` returns an answer of the server's own
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from otel_canonical.internal_errors import guarded
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.composer import as_meant
from otel_canonical.request.scope import RequestScope
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
    worker.wsgi_handler = _handler_class(worker.wsgi_handler, _Requests(log, runner))


class _Requests:
    """Opens and closes the scopes of what a handler is at."""

    def __init__(self, log: CanonicalLog, runner: Callable[[], Any]) -> None:
        self._log = log
        self._runner = runner
        self._count = 0
        self.echoes_id = log.settings.response_request_id
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
        """Close the scope of a request that was answered, or that nobody can answer any more."""
        self._log.close(scope)

    def refuse(self, handler: Any, status: int, error: ErrorFacts | None) -> None:
        """Note a request that the server answers without the application."""
        # Of an earlier request on the connection the handler keeps more than of this one.
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
            scope.status = status
            scope.error = error
            scope.first_byte_ns = time.monotonic_ns()
            self._log.close(scope)


def _handler_class(base: Any, requests: _Requests) -> Any:
    class CanonicalHandler(base):  # type: ignore[misc]
        """Gunicorn's handler, told from when to when it is at a request."""

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
                # Told to die, and answered all the same.
                self._scope.is_aborted = False

        def handle_error(self, kind: Any, error: Any, trace: Any) -> None:
            scope = self._scope
            if scope is not None and scope.error is None and not scope.is_aborted:
                with guarded("describing a request that failed"):
                    scope.error = errors.of_error(error)
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
                names = {name.lower() for name, _ in self.response_headers}
                if b"x-request-id" not in names:
                    self.response_headers.append((b"X-Request-ID", scope.request_id.encode()))

        def _sendall(self, data: Any) -> None:
            scope = self._scope
            try:
                super()._sendall(data)
            except OSError as error:
                if scope is not None and error.errno in GONE:
                    scope.client_gone = True
                raise
            if scope is not None and scope.first_byte_ns is None:
                scope.first_byte_ns = time.monotonic_ns()
                scope.status = self.code
                scope.bytes_written = 0

        def _write(self, data: Any) -> None:
            super()._write(data)
            if self._scope is not None and self._scope.bytes_written is not None:
                self._scope.bytes_written += len(data)

    return CanonicalHandler
