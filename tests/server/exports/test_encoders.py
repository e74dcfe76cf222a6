"""The exporters of a real worker encode by our encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.otlp_sink import grpc_sink, is_server, otlp_sink
from tests.support.servers import gunicorn


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
