"""An application that opens a connection to a broker when it is imported, by whatever number is free."""

from __future__ import annotations

import os
import socket

connection = socket.create_connection(("127.0.0.1", int(os.environ["BROKER_PORT"])))


def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
