"""Rotel, a light collector that pip installs: a stranger's OTLP receiver for every `make test`.

What it took in it sends on, encoded anew, to a sink: whatever it could not read is not there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.addresses import listens, unused_address
from tests.support.environments import clean_environment
from tests.support.otlp_sink import OtlpSink, otlp_sink
from tests.support.peers.tools import give_up
from tests.support.servers import eventually, stop


@dataclass
class Rotel:
    """A running Rotel; `received` is what it sent on."""

    endpoint: str
    grpc_endpoint: str
    received: OtlpSink
    log: Path

    def said(self) -> str:
        """Return all that it logged, for a failure message."""
        return self.log.read_text(errors="replace")


@contextlib.contextmanager
def rotel(directory: Path) -> Iterator[Rotel]:
    """Start Rotel; it is ready to receive, over HTTP and gRPC."""
    package = importlib.util.find_spec("rotel")
    if package is None or package.origin is None:
        give_up("PyPI's `rotel` is not installed", "pip install --pre rotel")
    grpc, http = unused_address(), unused_address()
    log = directory / "rotel.log"
    with otlp_sink() as sink, log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(str(Path(package.origin).with_name("rotel-agent")), "start"),
                *("--otlp-grpc-endpoint", grpc, "--otlp-http-endpoint", http),
                *("--batch-timeout", "20ms", "--exporter", "otlp"),
                *("--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", sink.endpoint),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=clean_environment(directory, {}),
            start_new_session=True,
        )
        started = Rotel(f"http://{http}", f"http://{grpc}", sink, log)
        try:
            eventually(lambda: listens(grpc) and listens(http), started.said)
            yield started
        finally:
            stop(process)
