"""Canonical lines out of a text, and pipes to read them from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from otel_canonical.event import logfmt
from tests.support.servers import Line

#: Up to here Linux writes to a pipe in one piece; the promise about every line.
PIPE_BUF = 4096


def canonical(text: str) -> list[Line]:
    """Return the canonical lines of a text."""
    return [logfmt.parse(line) for line in text.splitlines() if line.startswith("ts=")]


#: Of the process, not of the request: the other workers, a first request's imports, a collection.
BY_CHANCE = ("g_", "gc_", "imports", "mem_growth", "resp_overlap")


def keys(line: Iterable[str]) -> list[str]:
    """Return the keys of a line that don't depend on what else the process and the pool are doing."""
    return [key for key in line if not key.startswith(BY_CHANCE)]


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Make a pipe and close what is left of it in the end."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for descriptor in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)
