"""A WSGI application that sends a large file by sendfile(2), or waits."""

from __future__ import annotations

import os
import sys
import time

SIZE = 30_000_000


def application(environ, start_response):
    if environ["PATH_INFO"] == "/waits/":
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
    path = os.path.join(os.environ["HOME"], "large")
    if not os.path.exists(path):
        with open(path, "wb") as file:
            file.truncate(SIZE)
    start_response("200 OK", [("Content-Length", str(SIZE))])
    return environ["wsgi.file_wrapper"](open(path, "rb"))
