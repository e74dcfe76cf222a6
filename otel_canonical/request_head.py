"""Which headers of a request facts come from, and how they are read. Pure."""

from __future__ import annotations

import functools

from otel_canonical import request_ids

#: Headers that say something of the request itself. Names as Gunicorn spells them.
OWN_HEADERS = frozenset(("HOST", "REFERER", "USER-AGENT", "CONTENT-LENGTH"))
#: Headers that facts come from, beside those of the trace context.
FACT_HEADERS = OWN_HEADERS.union(request_ids.ID_HEADERS, request_ids.QUEUE_HEADERS)

#: Of a `Content-Length`: 64 bits of it. Python itself refuses some thousands.
LENGTH_DIGITS = 18


@functools.lru_cache(maxsize=256)
def without_port(host: str) -> str:
    """Return the host of a `Host` header."""
    name, colon, port = host.rpartition(":")
    return name.strip("[]") if colon and port.isdecimal() else host.strip("[]")
