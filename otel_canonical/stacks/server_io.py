"""Recognises stacks of servers that are reading a request's body or writing to the client. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence

READING = "reading the body"
WRITING = "writing to the client"

#: By package, then by file below it: the functions that write; a file with None only reads or writes.
_FILES: dict[str, dict[str, tuple[str, tuple[str, ...] | None]]] = {
    "gunicorn": {
        "http/wsgi.py": (WRITING, ("write", "write_file", "sendfile", "send_headers", "close")),
        "util.py": (WRITING, ("write", "write_chunk", "write_nonblock", "write_error")),
        "http2/response.py": (WRITING, None),
        "http2/connection.py": (WRITING, None),
        "http2/async_connection.py": (WRITING, None),
        "asgi/websocket.py": (WRITING, ("_send_frame", "_send_close")),
        "http/body.py": (READING, None),
        "http/unreader.py": (READING, None),
        "asgi/unreader.py": (READING, None),
    },
    "uvicorn": {"protocols/http/flow_control.py": (WRITING, ("drain",))},
    "gevent": {
        "pywsgi.py": (WRITING, ("_sendall", "_write", "write", "_write_with_headers")),
    },
}

#: Functions of the same name in several files, of servers that do both in one.
_READERS = {("gevent", "pywsgi.py"): ("_do_read", "_chunked_read", "read", "readline", "readlines")}
_ASGI = {"drain": WRITING, "receive": READING, "_wait_for_data": READING}

#: Where the calls of a server end: sockets and what waits for them.
_BELOW = ("socket.py", "ssl.py", "selectors.py", "events.py", "locks.py", "futures.py", "tasks.py")


def waits_for_client(frames: Sequence[tuple[str, int, str]]) -> str | None:
    """Return what a server waits for in the innermost frames of a stack: `READING` or `WRITING`; else None."""
    for filename, _, function in reversed(frames):
        found = _of_frame(filename, function)
        if found is not None:
            return found
        name = os.path.basename(filename)
        is_gevents = f"{os.sep}gevent{os.sep}" in filename
        if name not in _BELOW and not is_gevents:
            return None
    return None


def _of_frame(filename: str, function: str) -> str | None:
    for package, files in _FILES.items():
        _, found, below = filename.rpartition(f"{os.sep}{package}{os.sep}")
        if not found:
            continue
        if function in _READERS.get((package, below), ()):
            return READING
        if below == "asgi/protocol.py" or (package == "uvicorn" and below.startswith("protocols/")):
            return _ASGI.get(function)
        doing, functions = files.get(below, ("", ()))
        if doing and (functions is None or function in functions):
            return doing
    return None
