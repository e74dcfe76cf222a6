"""Stacks of servers that read from or write to the client are told from all others."""

from __future__ import annotations

import pytest

from otel_canonical.stacks.server_io import READING, WRITING, waits_for_client

PACKAGES = "/site-packages"
VIEW = ("/srv/shop/views.py", 3, "show")


def stack(*frames: tuple[str, str]) -> list[tuple[str, int, str]]:
    """Return a stack of files below the packages, with a view outermost."""
    return [VIEW, *((f"{PACKAGES}/{file}", 1, function) for file, function in frames)]


@pytest.mark.parametrize(
    ("file", "function", "waits_for"),
    [
        *(("gunicorn/http/wsgi.py", name, WRITING) for name in ("write", "sendfile", "close")),
        *(("gunicorn/util.py", name, WRITING) for name in ("write", "write_chunk", "write_error")),
        ("gunicorn/http/wsgi.py", "create", None),
        ("gunicorn/util.py", "import_app", None),
        ("gunicorn/http2/response.py", "anything", WRITING),
        ("gunicorn/http2/async_connection.py", "anything", WRITING),
        ("gunicorn/asgi/websocket.py", "_send_frame", WRITING),
        ("gunicorn/asgi/websocket.py", "receive", None),
        ("gunicorn/http/body.py", "read", READING),
        ("gunicorn/http/unreader.py", "chunk", READING),
        ("gunicorn/asgi/unreader.py", "anything", READING),
        ("gunicorn/asgi/protocol.py", "drain", WRITING),
        ("gunicorn/asgi/protocol.py", "receive", READING),
        ("gunicorn/asgi/protocol.py", "_handle", None),
        ("gunicorn/arbiter.py", "write", None),
        ("uvicorn/protocols/http/flow_control.py", "drain", WRITING),
        ("uvicorn/protocols/http/h11_impl.py", "receive", READING),
        ("uvicorn/protocols/http/h11_impl.py", "run_asgi", None),
        ("uvicorn/middleware/wsgi.py", "receive", None),
        ("uvicorn/asgi/protocol.py", "run", None),
        ("gevent/pywsgi.py", "_sendall", WRITING),
        ("gevent/pywsgi.py", "_do_read", READING),
        ("gevent/pywsgi.py", "readlines", READING),
        ("gevent/pywsgi.py", "handle_one_response", None),
        ("shop/http/wsgi.py", "write", None),
    ],
)
def test_frame_of_a_server_says_what_it_waits_for(
    file: str, function: str, waits_for: str | None
) -> None:
    """By file and function; a server's other functions say nothing."""
    assert waits_for_client(stack((file, function))) == waits_for


@pytest.mark.parametrize("below", ["socket.py", "ssl.py", "selectors.py", "events.py", "locks.py"])
def test_sockets_below_a_server_are_passed(below: str) -> None:
    """Its call ends in the standard library; an app's own call of a socket is the app's."""
    library = ("/usr/lib/python3.11/" + below, 1, "recv_into")
    assert waits_for_client([*stack(("gunicorn/http/body.py", "read")), library]) == READING
    assert waits_for_client([VIEW, library]) is None
    assert waits_for_client([*stack(("gunicorn/http/body.py", "read")), VIEW]) is None


def test_gevents_own_frames_are_passed() -> None:
    """Any of its files stands between a server and the hub."""
    hub = ("/site-packages/gevent/hub.py", 1, "switch")
    assert waits_for_client([*stack(("gevent/pywsgi.py", "_sendall")), hub]) == WRITING
    assert waits_for_client([VIEW, hub]) is None
    assert waits_for_client([]) is None
