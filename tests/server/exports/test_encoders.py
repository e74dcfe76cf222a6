"""The exporters of a real worker encode by our encoder, and what waits for them is encoded already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.otlp_sink import grpc_sink, is_server, otlp_sink
from tests.support.servers import eventually, gunicorn


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_exporters_of_a_worker_encode_by_it(protocol: str, tmp_path: Path) -> None:
    """Both exporters of a real worker, whatever they are called there."""
    if protocol == "grpc":
        pytest.importorskip("grpc", reason="pip install opentelemetry-exporter-otlp-proto-grpc")
    encoders = tmp_path / "encoders"
    with (
        (grpc_sink if protocol == "grpc" else otlp_sink)() as sink,
        gunicorn(
            "every_kind",
            tmp_path,
            *("-c", "python:tells_encoders"),
            ENCODERS_TO=str(encoders),
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            SITE_DIRECTORY=str(tmp_path),
        ) as server,
    ):
        _, line = server.ask("/queries/")
        assert encoders.read_text().split() == ["BatchEncoder", "BatchEncoder"]
    assert is_server(sink.root_of(line))


def test_requests_that_wait_for_a_batch_are_no_objects(tmp_path: Path) -> None:
    """Neither spans of requests and queries nor log events: the garbage collector would walk them."""
    batch = 64
    counted = tmp_path / "counted"
    with (
        otlp_sink() as sink,
        gunicorn(
            "every_kind",
            tmp_path,
            *("-c", "python:tells_objects"),
            OBJECTS_TO=str(counted),
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_METRICS_EXPORTER="none",
            **{f"OTEL_{queue}_SCHEDULE_DELAY": "600000" for queue in ("BSP", "BLRP")},
            **{f"OTEL_{queue}_MAX_EXPORT_BATCH_SIZE": str(batch) for queue in ("BSP", "BLRP")},
            SITE_DIRECTORY=str(tmp_path),
        ) as server,
    ):
        # The first batch is encoded when it is sent: its records are held against OpenTelemetry's encoding.
        first = [server.ask("/queries/")[1] for _ in range(batch)]
        eventually(lambda: sink.spans and sink.logs, server.report)
        waiting = [server.ask("/queries/")[1] for _ in range(5)]
        waiting.append(server.ask("/queries/?tell")[1])
        objects = json.loads(counted.read_text())
    assert objects.get("PreparedSpan", 0) + objects.get("EventRecord", 0) == 0, objects
    assert objects.get("CanonicalEvent", 0) <= 1, objects  # that of the request which tells
    for line in (*first, *waiting):
        root = sink.root_of(line)
        assert len(sink.children_of(root)) == int(line["db_queries"])
