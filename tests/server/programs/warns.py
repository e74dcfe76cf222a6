"""A WSGI application without handlers of its own: its warnings go to `logging`'s last resort."""

from __future__ import annotations

import logging


def application(environ, start_response):
    logging.getLogger("shop").warning("warned of %s", environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
