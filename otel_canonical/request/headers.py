"""Which headers of a request give facts, and how they are read: host, length, request id, queue time. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import AnyStr

from otel_canonical.event.bounds import limits
from otel_canonical.event.redaction import MARGIN

#: Headers that say something of the request itself. Names as Gunicorn spells them.
OWN_HEADERS = frozenset(("HOST", "REFERER", "USER-AGENT", "CONTENT-LENGTH"))
#: Headers that carry a request id, the most telling first. Names as Gunicorn spells them.
ID_HEADERS = ("X-REQUEST-ID", "X-CORRELATION-ID", "REQUEST-ID", "X-VARNISH", "X-AMZN-TRACE-ID")
#: The header of a response in which its request id is sent back.
RESPONSE_ID_HEADER = "X-Request-ID"
#: Headers in which proxies note when a request reached them.
QUEUE_HEADERS = ("X-REQUEST-START", "X-QUEUE-START")
#: Headers that facts come from, beside those of the trace context.
FACT_HEADERS = OWN_HEADERS.union(ID_HEADERS, QUEUE_HEADERS)

#: The most digits read of a `Content-Length`: a 64-bit number has no more.
LENGTH_DIGITS = 18

_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._:=+/-]{1,128}")

#: The most characters that a host and a port have (RFC 1035, 3.1).
LONGEST_HOST = 255 + 6

#: No more is read of a header that holds a time.
LONGEST_TIME = 64

#: Proxies write seconds, milliseconds, microseconds or nanoseconds without saying which; today's
#: date tells. Each unit begins at its value of 2001-09-09, the moment of 10^9 seconds.
_UNITS = ((1e18, 1e9), (1e15, 1e6), (1e12, 1e3), (1e9, 1.0))
#: A proxy's clock may run ahead of ours by this much; more is nonsense.
CLOCK_SKEW_S = 5.0
#: A request that waited longer than this has a header that means something else.
LONGEST_QUEUE_S = 3600.0


def without_port(host: str) -> str:
    """Return the host of a `Host` header; no more of it than a name can have."""
    return _without_port(host if len(host) <= LONGEST_HOST else host[:LONGEST_HOST])


@functools.lru_cache(maxsize=256)
def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name.strip("[]") if colon and port.isdecimal() else host.strip("[]")


def incoming_id(headers: Mapping[str, str]) -> str | None:
    """Return the incoming request id if one is well formed."""
    for name in ID_HEADERS:
        value = headers.get(name)
        if value is not None and _WELL_FORMED_ID.fullmatch(value):
            return value
    return None


def add_if_missing(headers: list[tuple[AnyStr, AnyStr]], name: AnyStr, value: AnyStr) -> None:
    """Add a header to those of a response, unless the application has set it."""
    lower_name = name.lower()
    if not any(other.lower() == lower_name for other, _ in headers):
        headers.append((name, value))


def queue_time_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return the seconds between a proxy's note and `now_s` (since the epoch), or None."""
    for name in QUEUE_HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        try:
            number = float(value[:LONGEST_TIME].split(",")[0].strip().removeprefix("t="))
        except ValueError:
            continue
        for smallest, per_second in _UNITS:
            if number >= smallest:
                waited_s = now_s - number / per_second
                if -CLOCK_SKEW_S <= waited_s <= LONGEST_QUEUE_S:
                    return round(max(waited_s, 0.0), 6)
                break
    return None


def as_meant(text: str) -> str:
    """Return a text that WSGI has decoded as Latin-1, decoded as UTF-8; what is never shown is left out."""
    text = text[: 4 * limits.value + MARGIN]
    if text.isascii():
        return text
    return text.encode("latin-1", "replace").decode("utf-8", "replace")
