"""The real OpenTelemetry Collector, built from its own modules: ready when entered, gone when left."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.environments import clean_environment
from tests.support.otlp_sink import OtlpSink, otlp_sink
from tests.support.peers.tools import REPOSITORY, built_once, require_tool, run_or_give_up
from tests.support.servers import eventually, stop

HERE = "tests/support/peers/otelcol"
SOURCES = [REPOSITORY / HERE / name for name in ("build", "manifest.yaml", "go.mod", "go.sum")]
#: From nothing, with all modules to be fetched, on two busy processors.
BUILD_PATIENCE_S = 900.0
VALIDATE_PATIENCE_S = 30.0

READY = "Everything is ready"
GRPC = re.compile(r'Starting GRPC server.*"endpoint": "([^"]+)"')
HTTP = re.compile(r'Starting HTTP server.*"endpoint": "([^"]+)"')

#: Merged after the configuration under test: no listener of its own that another Collector may have.
UNRECORDED = "yaml:service::telemetry::metrics::level: none"

#: What we ship, unedited, on free ports of this machine; the rest is said by environment variables.
CONFIG = str(REPOSITORY / "collector-config.yaml")
LINES_CONFIG = str(REPOSITORY / "collector-lines.yaml")
LOOPBACK = dict.fromkeys(
    ("OTLP_GRPC_ENDPOINT", "OTLP_HTTP_ENDPOINT", "HEALTH_ENDPOINT"), "127.0.0.1:0"
)
IMPATIENT = "yaml:processors::batch::timeout: 20ms"

#: Everything that comes by OTLP goes into the file: for tests that bring no configuration.
OTLP_TO_FILE = """\
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:0"}
      http: {endpoint: "127.0.0.1:0"}
exporters:
  file: {path: "${env:RECEIVED}", flush_interval: 20ms}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
    metrics: {receivers: [otlp], exporters: [file]}
    logs: {receivers: [otlp], exporters: [file]}
"""

#: What a line of the file exporter is, by its first key.
REQUESTS: dict[str, tuple[str, type[Any]]] = {
    "resourceSpans": ("/v1/traces", ExportTraceServiceRequest),
    "resourceMetrics": ("/v1/metrics", ExportMetricsServiceRequest),
    "resourceLogs": ("/v1/logs", ExportLogsServiceRequest),
}
IDS = ("traceId", "spanId", "parentSpanId")


class Received(OtlpSink):
    """What the Collector's file exporter has written so far, read anew whenever it is looked at."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0
        self._so_far = OtlpSink()

    spans = property(lambda self: self._up_to_now().spans)
    metrics = property(lambda self: self._up_to_now().metrics)
    logs = property(lambda self: self._up_to_now().logs)
    requests = property(lambda self: self._up_to_now().requests)

    def _up_to_now(self) -> OtlpSink:
        if self._file.exists():
            with self._file.open("rb") as file:
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b"\n")  # one may still be being written
            self._read += len(whole + newline)
            for line in whole.splitlines():
                document = json.loads(line)
                path, request = REQUESTS[next(iter(document))]
                message = ParseDict(_with_ids_in_base64(document), request())
                self._so_far.take(path, message.SerializeToString())
        return self._so_far


@dataclass
class Collector:
    """A running Collector; `received` is what came out of it, first into the file `RECEIVED`."""

    process: subprocess.Popen[bytes]
    log: Path
    received: OtlpSink

    @property
    def endpoint(self) -> str:
        """Where it takes OTLP over HTTP."""
        return f"http://{self._address(HTTP)}"

    @property
    def grpc_endpoint(self) -> str:
        """Where it takes OTLP over gRPC."""
        return f"http://{self._address(GRPC)}"

    def said(self) -> str:
        """Return all that it logged, for a failure message."""
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str | re.Pattern[str]) -> re.Match[str]:
        """Return the first match in its log."""

        def probe() -> re.Match[str] | None:
            has_exited = self.process.poll() is not None  # asked first: its last words still count
            found = re.search(pattern, self.said())
            assert found or not has_exited, f"it left without {pattern!r}\n{self.said()}"
            return found

        return eventually(probe, lambda: f"{pattern!r} never appeared\n{self.said()}")

    def _address(self, pattern: re.Pattern[str]) -> str:
        return self.wait_for(pattern)[1]


@cache
def otelcol() -> str:
    """Return the path of the Collector; it is built if it isn't there."""
    require_tool("go", "install Go 1.21 or newer, for example `apt-get install golang-go`")

    def build(directory: Path) -> None:
        run_or_give_up(["./build"], directory, f"`cd {HERE} && ./build`", BUILD_PATIENCE_S)

    return str(built_once("otelcol", SOURCES, build) / "otelcol")


def validate(*configurations: str, **environment: str) -> str:
    """Return what the Collector has against these configurations, merged in this order."""
    done = subprocess.run(
        [otelcol(), "validate", *_options(configurations)],
        capture_output=True,
        text=True,
        timeout=VALIDATE_PATIENCE_S,
        env=environment,
    )
    assert (done.returncode == 0) == (not done.stderr), done.stderr
    return done.stderr


@contextlib.contextmanager
def collector(
    directory: Path, *configurations: str, gates: str = "", **environment: str
) -> Iterator[Collector]:
    """Start the Collector; it is ready to receive.

    Args:
        directory: where its log goes and, for a `file` exporter at `${env:RECEIVED}`, what it got.
        configurations: what to give with `--config`, merged in this order: paths, or `yaml:...`.
            Without any, what comes by OTLP goes into the file.
        gates: feature gates to switch on, separated by commas.
        environment: the variables that they name; none is inherited.
    """
    file, log = directory / "received.jsonl", directory / "otelcol.log"
    options = _options([*(configurations or [f"yaml:{OTLP_TO_FILE}"]), UNRECORDED])
    if gates:
        options.append(f"--feature-gates={gates}")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [otelcol(), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=clean_environment(directory, {"RECEIVED": str(file), **environment}),
            start_new_session=True,
        )
    started = Collector(process, log, Received(file))
    try:
        started.wait_for(READY)
        yield started
    finally:
        stop(process)


@contextlib.contextmanager
def shipped_collector(
    directory: Path, *configurations: str, gates: str = "", **environment: str
) -> Iterator[Collector]:
    """Start the Collector with our own configuration; `received` is what its backend got.

    Args:
        directory: where its log goes.
        configurations: what to merge after `collector-config.yaml`.
        gates: feature gates to switch on.
        environment: variables beside those of the addresses.
    """
    with otlp_sink() as backend:
        variables = {**LOOPBACK, "BACKEND_OTLP_ENDPOINT": backend.endpoint, **environment}
        given = (CONFIG, IMPATIENT, *configurations)
        with collector(directory, *given, gates=gates, **variables) as started:
            started.received = backend
            yield started


def _options(configurations: Sequence[str]) -> list[str]:
    return [f"--config={configuration}" for configuration in configurations]


def _with_ids_in_base64(part: Any) -> Any:
    """OTLP's JSON has ids in hex where protobuf's has bytes in base64 (OTLP, "JSON encoding")."""
    if isinstance(part, list):
        return [_with_ids_in_base64(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: base64.urlsafe_b64encode(bytes.fromhex(value)).decode()
        if key in IDS
        else _with_ids_in_base64(value)
        for key, value in part.items()
    }


if __name__ == "__main__":
    print(otelcol())
