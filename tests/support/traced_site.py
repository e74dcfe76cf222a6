"""A server that exports, and the receiver of what it exports."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.otlp_sink import OtlpSink, SunkSpan, otlp_sink
from tests.support.servers import Line, Server, gunicorn


class Traced(NamedTuple):
    """A server, and the receiver of what it exports; to be unpacked where both are used by name."""

    server: Server
    sink: OtlpSink

    def ask(self, path: str, **headers: str) -> tuple[Line, SunkSpan]:
        """Send a request and return its one line and its one root."""
        _, line = self.server.ask(path, **headers)
        return line, self.sink.root_of(line)


@contextlib.contextmanager
def traced_site(
    directory: Path,
    *arguments: str,
    receiver: Callable[[], contextlib.AbstractContextManager[OtlpSink]] = otlp_sink,
    **environment: str,
) -> Iterator[Traced]:
    """Serve `programs/every_kind.py`, its spans exported at once; when left, all is exported."""
    with receiver() as sink:
        settings = {
            "SITE_DIRECTORY": str(directory),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            **environment,
        }
        with gunicorn("every_kind", directory, *arguments, **settings) as server:
            yield Traced(server, sink)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
_numbers = itertools.count()
