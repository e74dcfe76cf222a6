"""Facts that Gunicorn's own objects hold about a request: path, bytes, how it went wrong. Pure."""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any

from otel_canonical.request.headers import as_meant
from otel_canonical.stacks import errors

#: What facts of a request come from.
REQUEST_FACTS = (
    *(
        "headers",
        "peer_addr",
        "proxy_protocol_info",
        "method",
        "path",
        "query",
        "scheme",
        "version",
    ),
)

#: Modules in which a socket is written to, whoever asked for it.
SOCKETS = ("ssl", "socket", "gevent._socket", "gevent.ssl", "gevent._ssl")

#: How a socket says that nobody is at its other end.
GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


def path_of(req: Any) -> str:
    """Return the path as it was sent, without the query."""
    path: str | None = getattr(req, "path", None)
    if path is None:
        # Refused before it was taken apart: what there is of the target, without its query.
        path = (getattr(req, "uri", None) or "").partition("?")[0]
    return as_meant(path)


def body_bytes(resp: Any) -> int:
    """Return how many bytes of a response's body were sent."""
    # Gunicorn doesn't count what it hands to sendfile(2).
    return int(resp.sent) + int(getattr(resp, SENT_AS_FILE, 0))


#: On a response: how many bytes of it sendfile(2) has sent.
SENT_AS_FILE = "_otel_canonical_sent_as_file"


def counting_sendfile(sendfile: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Count in `Response.sendfile` what was sent, also when the client leaves in the middle."""

    def sendfile_and_count(resp: Any, respiter: Any) -> bool:
        file = getattr(respiter, "filelike", None)
        before: int | None = None
        size = 0
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            before = os.lseek(file.fileno(), 0, os.SEEK_CUR)  # type: ignore[union-attr]
            size = os.fstat(file.fileno()).st_size - before  # type: ignore[union-attr]
        try:
            is_sent = sendfile(resp, respiter)
        except BaseException:
            # `socket.sendfile` leaves the file where it has stopped.
            with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
                if before is not None and resp.headers_sent:
                    vars(resp)[SENT_AS_FILE] = max(file.tell() - before, 0)  # type: ignore[union-attr]
            raise
        if is_sent and before is not None and not getattr(resp, "_omits_body", False):
            length = resp.response_length
            vars(resp)[SENT_AS_FILE] = size if length is None else length
        return is_sent

    return sendfile_and_count


def is_final(error: BaseException) -> bool:
    """Return whether Gunicorn will close the connection on `error` without another answer."""
    return isinstance(error, OSError) and not isinstance(error, ssl.SSLError)


def is_client_gone(error: BaseException) -> bool:
    """Return whether `error` says that the client went away, and not a server that the app called."""
    if not isinstance(error, OSError) or error.errno not in GONE:
        return False
    frame = errors.last_frame(error, SOCKETS)
    return frame is not None and str(frame.f_globals.get("__name__")).startswith("gunicorn.")


def refused_request(exc: BaseException) -> Any:
    """Return as much of a request as Gunicorn had parsed when it refused it.

    The parser never returned it: it is the `self` of the frame that raised.
    """
    if (req := getattr(exc, "req", None)) is not None:
        return req
    trace: TracebackType | None = exc.__traceback__
    found: Any = None
    while trace is not None:
        candidate = trace.tb_frame.f_locals.get("self")
        if hasattr(candidate, "headers") and hasattr(candidate, "method"):
            found = candidate
        trace = trace.tb_next
    return found
