"""Exports through the real OpenTelemetry Collector and through Rotel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_canonical.event.fields import attribute_of
from tests.support.peers.collector import Collector, collector
from tests.support.peers.rotel import Rotel, rotel
from tests.support.servers import eventually, gunicorn

Peer = Collector | Rotel


@pytest.fixture(params=["otelcol", "rotel"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    """Each of the two, ready to receive."""
    start = collector if request.param == "otelcol" else rotel
    with start(tmp_path) as started:
        yield started


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_all_signals_arrive_when_an_endpoint_is_named(
    peer: Peer, protocol: str, tmp_path: Path
) -> None:
    """The root with the line's ids, its log event and a metric come out of it, by either protocol."""
    with gunicorn(
        "every_kind",
        tmp_path,
        SITE_DIRECTORY=str(tmp_path),
        OTEL_EXPORTER_OTLP_ENDPOINT=peer.grpc_endpoint if protocol == "grpc" else peer.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_BSP_SCHEDULE_DELAY="20",
        OTEL_METRIC_EXPORT_INTERVAL="50",
    ) as site:
        _, line = site.ask("/queries/")
        root = peer.received.root_of(line)
        logs = eventually(
            lambda: [log for log in peer.received.logs if log.trace_id == line["trace_id"]],
            peer.said,
        )
        eventually(lambda: peer.received.metrics, peer.said)
    assert (root.span_id, root.kind) == (line["span_id"], "SERVER")
    assert root.attributes[attribute_of("db_queries")] == int(line["db_queries"])
    children = peer.received.children_of(root)
    assert [child.kind for child in children].count("CLIENT") == int(line["db_queries"])
    assert [(log.event_name, log.span_id) for log in logs] == [
        ("canonical.request", line["span_id"])
    ]
    assert (
        logs[0].attributes.items()
        >= {"canonical.db.queries": int(line["db_queries"]), "http.route": "queries/"}.items()
    )
    assert "http.server.request.duration" in {metric.name for metric in peer.received.metrics}
