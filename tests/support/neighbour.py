"""Another HTTP service, which notes the `traceparent` of every call that it gets."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Neighbour:
    """The address of the service, without a slash at its end, and the `traceparent` of each call."""

    url: str = ""
    callers: list[str | None] = field(default_factory=list)


@contextlib.contextmanager
def running_neighbour() -> Iterator[Neighbour]:
    """Answer 503 on `/broken` and 200 elsewhere, on a free port of 127.0.0.1, until left."""
    found = Neighbour()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.callers.append(self.headers.get("traceparent"))
            self.send_response(503 if self.path == "/broken" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="neighbour")
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
