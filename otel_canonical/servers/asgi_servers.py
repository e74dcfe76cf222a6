"""Adapter for the ASGI servers that run under Gunicorn: where they keep the application, what they refuse.

Lives in the worker. Nothing here imports a server: what is patched is looked up in `sys.modules`.

Gunicorn's own `asgi` worker   answers a malformed request, and a websocket's bad handshake, in
                               `ASGIProtocol._send_error_response`
Uvicorn's workers              answer a malformed request in `send_400_response` of their protocol, and
                               too many with an application of their own, `service_unavailable`
"""

from __future__ import annotations

import sys
from collections.abc import Callable, MutableMapping
from typing import Any

from otel_canonical.event.http_conventions import INTERNAL_SERVER_ERROR
from otel_canonical.internal_errors import guarded
from otel_canonical.patching import patch
from otel_canonical.pool.worker_class import is_gunicorn_asgi
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.servers.asgi import AsgiAdapter
from otel_canonical.servers.asgi_exchange import Server
from otel_canonical.servers.asgi_websocket import FORBIDDEN
from otel_canonical.stacks import errors

BAD_REQUEST = 400

#: Uvicorn's own middleware that replaces client and scheme by what a trusted proxy has forwarded.
PROXY_MIDDLEWARE = "ProxyHeadersMiddleware"

UVICORN_PROTOCOLS = (
    "uvicorn.protocols.http.h11_impl",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.http.zttp_impl",
)


def is_asgi(worker: Any) -> bool:
    """Return whether a worker of Gunicorn's runs one of these servers."""
    return _is_gunicorns(worker) or _is_uvicorns(worker)


def join(worker: Any, log: CanonicalLog) -> None:
    """Follow the requests of the application that the worker is going to load."""
    if _is_gunicorns(worker):
        _join_gunicorns(worker, log)
    else:
        _join_uvicorns(worker, log)


def _is_gunicorns(worker: Any) -> bool:
    return is_gunicorn_asgi(type(worker))


def _is_uvicorns(worker: Any) -> bool:
    # The class was in `uvicorn.workers`, and is now in the package uvicorn-worker.
    return hasattr(worker, "callback_notify") and hasattr(getattr(worker, "config", None), "loaded")


def _join_gunicorns(worker: Any, log: CanonicalLog) -> None:
    adapter = AsgiAdapter(
        log,
        Server(
            holds_head=True,
            answered=Exception,
            is_leaving=lambda: not worker.alive,
            unaccepted=FORBIDDEN,
            cuts_body=True,
            prefixes_root=False,
        ),
    )

    def wrapping_application(load_wsgi: Callable[[], None]) -> Callable[[], None]:
        def load_and_wrap() -> None:
            load_wsgi()
            with guarded("wrapping the application"):
                patch(worker, "asgi", adapter.around)

        return load_and_wrap

    def note(protocol: Any, status: int, *args: Any) -> None:
        # A 500 is for an error of the application: that request is followed already.
        if status != INTERNAL_SERVER_ERROR:
            _refuse(adapter, protocol._body_receiver, status, _parsed_by_gunicorn(protocol))

    patch(worker, "load_wsgi", wrapping_application)
    protocol_class = getattr(sys.modules.get("gunicorn.asgi.protocol"), "ASGIProtocol", None)
    patch(protocol_class, "_send_error_response", _followed_by(note), is_optional=True)


def _join_uvicorns(worker: Any, log: CanonicalLog) -> None:
    adapter = AsgiAdapter(
        log,
        Server(
            holds_head=False,
            answered=BaseException,
            is_leaving=lambda: False,
            unaccepted=INTERNAL_SERVER_ERROR,
            cuts_body=False,
            prefixes_root=True,
        ),
    )
    config = worker.config

    def wrapping_application(load: Callable[[], None]) -> Callable[[], None]:
        def load_and_wrap() -> None:
            load()
            with guarded("wrapping the application"):
                # Outside Uvicorn's own wrappers: whatever kind the application was, here it is ASGI 3.
                # But inside the one that trusts a proxy's headers: then the client is known at once.
                outermost = config.loaded_app
                if type(outermost).__name__ == PROXY_MIDDLEWARE:
                    patch(outermost, "app", adapter.around)
                else:
                    patch(config, "loaded_app", adapter.around)
                protocol_class = config.http_protocol_class
                patch(protocol_class, "send_400_response", _followed_by(note), is_optional=True)
                for name in UVICORN_PROTOCOLS:
                    module = sys.modules.get(name)
                    patch(module, "service_unavailable", adapter.around, is_optional=True)

        return load_and_wrap

    def note(protocol: Any, *args: Any) -> None:
        cycle: Any = getattr(protocol, "cycle", None)
        asgi: Any = getattr(protocol, "scope", None)
        if cycle is not None and asgi is not cycle.scope:
            cycle = None
        elif cycle is not None and cycle.response_complete:
            # The bytes after a complete request do not parse: they belong to no request.
            cycle = asgi = None
        # A request has its task as soon as its head is read, unless it waits behind another.
        waiting = [waits[0] for waits in getattr(protocol, "pipeline", ())]
        _refuse(
            adapter,
            cycle,
            BAD_REQUEST,
            _parsed_by_uvicorn(protocol, asgi),
            is_coming=cycle is not None and cycle not in waiting,
        )

    patch(config, "load", wrapping_application)


def _refuse(
    adapter: AsgiAdapter,
    holder: Any,
    status: int,
    parsed: MutableMapping[str, Any],
    *,
    is_coming: bool = False,
) -> None:
    # Called where the parser's exception is being handled, if there is one.
    error = sys.exc_info()[1]
    facts = errors.of_refusal(error) if error is not None else None
    adapter.refuse(holder, status, parsed, facts, is_coming=is_coming)


def _followed_by(note: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a `make` for `patch`: `note` is called after the method, with the same arguments."""

    def calling_note(method: Callable[..., Any]) -> Callable[..., Any]:
        def call_and_note(*args: Any) -> Any:
            result = method(*args)
            with guarded("noting a refused request"):
                note(*args)
            return result

        return call_and_note

    return calling_note


def _parsed_by_gunicorn(protocol: Any) -> MutableMapping[str, Any]:
    """Return what there is of a request that Gunicorn refuses, as ASGI would say it."""
    transport = protocol.transport
    parsed: dict[str, Any] = {
        "client": _address(transport.get_extra_info("peername")),
        "scheme": "https" if transport.get_extra_info("ssl_object") else "http",
    }
    source = protocol._current_request or protocol._callback_parser
    if source is None:
        return parsed
    target = getattr(source, "raw_path", None) or getattr(source, "path", None) or b""
    parsed["method"] = _text(getattr(source, "method", None) or "")
    parsed["raw_path"] = bytes(target).partition(b"?")[0]
    parsed["headers"] = getattr(source, "headers_bytes", None) or [
        (name.lower(), value)
        for name, value in getattr(source, "headers", None) or ()
        if isinstance(name, bytes)
    ]
    return parsed


def _parsed_by_uvicorn(protocol: Any, asgi: Any) -> MutableMapping[str, Any]:
    """Return what there is of a request that Uvicorn refuses, as ASGI would say it."""
    parsed = {"client": protocol.client, "scheme": protocol.scheme}
    if asgi is None:
        return parsed
    target = getattr(protocol, "url", None) or asgi.get("raw_path") or b""
    return {
        **parsed,
        "method": asgi.get("method") or "",
        "raw_path": target.partition(b"?")[0],
        "headers": asgi.get("headers") or (),
    }


def _address(peer: Any) -> Any:
    return peer if isinstance(peer, tuple) else None


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
