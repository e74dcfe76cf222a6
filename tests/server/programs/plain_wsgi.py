"""A WSGI application without Django: what a worker serves when only Gunicorn is there."""

from __future__ import annotations

import subprocess
import sys

CHILD = "import otel_canonical, sys; otel_canonical.set('from', 'child'); print('child')"


def spawn(environ, start_response):
    """Run another Python, as a view that calls a tool does, and answer with all that it said."""
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [child.stdout, child.stderr]


def own_id(environ, start_response):
    """Answer with a request id of the application's own."""
    start_response("200 OK", [("x-request-id", "the-app-s-own")])
    return [b"own"]


def prints(environ, start_response):
    """Print beside our lines, as applications do."""
    print("printed by the application", flush=True)
    start_response("200 OK", [])
    return [b"printed"]


def ok(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


VIEWS = {"/spawn/": spawn, "/own-id/": own_id, "/prints/": prints, "/ok/": ok}


def application(environ, start_response):
    view = VIEWS.get(environ["PATH_INFO"])
    if view is None:
        start_response("404 Not Found", [("Content-Length", "0")])
        return [b""]
    return view(environ, start_response)
