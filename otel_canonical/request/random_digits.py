"""Random digits for the ids of requests, made for many requests at once.

For each by itself they would be a system call (`os.urandom`), and `random` is no source: an app may
seed it, and its workers would give the same ids.
"""

from __future__ import annotations

import os

from otel_canonical.process.identity import when_forked

#: Hex digits of one request: 16 for a span, 32 for a trace, 32 for the request.
DIGITS = 80

#: So many requests' are made at once.
REQUESTS = 64


class RandomDigits:
    """Gives each request digits of its own.

    Attributes:
        ready: those of requests to come, `DIGITS` for each. To take one is `pop`; if there is none, `make`.
    """

    __slots__ = ("__weakref__", "ready")

    def __init__(self) -> None:
        self.ready: list[str] = []
        when_forked(self.forget)

    def make(self) -> str:
        """Make the digits of many requests; return those of one."""
        digits = os.urandom(REQUESTS * DIGITS // 2).hex()
        made = [digits[at : at + DIGITS] for at in range(0, len(digits), DIGITS)]
        one = made.pop()
        self.ready += made
        return one

    def forget(self) -> None:
        """Forget what is ready: the process that has forked will use it."""
        self.ready = []


#: The only one that is needed.
random_digits = RandomDigits()
