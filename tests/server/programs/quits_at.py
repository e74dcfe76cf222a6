"""A Gunicorn configuration whose workers are told to quit at one moment of a request.

The request is the one whose X-Request-ID begins with `quit-`, QUIT_SIGNAL the signal's name, QUIT_AT
the name of one of `PATCHES`, or `before_close`.
"""

from __future__ import annotations

import os
import signal
import threading

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.event.output import LineOutput
from otel_canonical.request import canonical_log
from otel_canonical.request.scope import current_scope, readers

MARK = "quit-"


def tell():
    """Send the signal to this thread: its handler is called as soon as the interpreter looks."""
    signal.pthread_kill(threading.get_ident(), getattr(signal, os.environ["QUIT_SIGNAL"]))


def is_meant(scope):
    return scope is not None and scope.request_id.startswith(MARK)


def before_hook(worker):
    """Between Gunicorn's parser and its hook `pre_request`."""
    handle_request = worker.handle_request

    def tell_and_handle(listener, req, client, addr):
        if dict(req.headers).get("X-REQUEST-ID", "").startswith(MARK):
            tell()
        return handle_request(listener, req, client, addr)

    worker.handle_request = tell_and_handle


def while_opened(worker):
    """While its scope is made."""
    incoming_id = canonical_log.incoming_id

    def tell_and_find(headers):
        found = incoming_id(headers)
        if found and found.startswith(MARK):
            tell()
        return found

    canonical_log.incoming_id = tell_and_find


def while_read(worker):
    """While the last facts are read."""
    readers.append(lambda scope: tell() if is_meant(scope) else None)


def while_encoded(worker):
    """While its line is encoded."""
    as_logfmt = CanonicalEvent.as_logfmt

    def tell_and_encode(event):
        text = as_logfmt(event)
        if f"req_id={MARK}" in text:
            tell()
        return text

    CanonicalEvent.as_logfmt = tell_and_encode


def behind_write(worker):
    """When its line is written, before anybody knows."""
    write = LineOutput.write

    def write_and_tell(output, line, slot=None):
        is_written = write(output, line, slot)
        if f"req_id={MARK}".encode() in line:
            tell()
        return is_written

    LineOutput.write = write_and_tell


PATCHES = (before_hook, while_opened, while_read, while_encoded, behind_write)


def post_worker_init(worker):
    for patch in PATCHES:
        if patch.__name__ == os.environ["QUIT_AT"]:
            patch(worker)


def post_request(worker, req, environ, resp):
    """After the last byte, before anything of its closing."""
    if os.environ["QUIT_AT"] == "before_close" and is_meant(current_scope.get()):
        tell()
