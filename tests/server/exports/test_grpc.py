"""The gRPC exporter in forked workers: recycling, reloads, and an unreachable collector."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.broken_collectors import (
    FLUSH_S,
    GUNICORN_STOPS_S,
    REQUESTS_SENT,
    broken_collector,
    complaints,
    hang,
    impatient_settings,
    latencies_ms,
    lost,
    noise,
    stop_s,
)
from tests.support.raw_requests import request_id, send

pytest.importorskip("grpc", reason="pip install opentelemetry-exporter-otlp-proto-grpc")

from tests.support.otlp_sink import grpc_sink, is_server
from tests.support.servers import eventually, gunicorn
from tests.support.soak import IS_SOAK
from tests.support.traced_site import traced_site

GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_METRICS_EXPORTER": "none"}


@pytest.mark.soak
@pytest.mark.parametrize(
    "arguments",
    [
        ("-k", "gevent"),
        ("-k", "sync", "--preload"),
        *([("-k", "sync"), ("-k", "gthread", "--threads", "4")] if IS_SOAK else []),
    ],
    ids=lambda arguments: arguments[-1] if arguments[-1].startswith("-") else arguments[1],
)
def test_every_request_arrives_by_grpc_when_workers_come_and_go(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """One root and one event for each line, from workers that are recycled, reloaded and stopped."""
    if "gevent" in arguments:
        pytest.importorskip("gevent", reason="pip install gevent")

    def ask(n: int) -> str:
        return server.ask("/queries/")[1]["trace_id"]

    with (
        grpc_sink() as sink,
        gunicorn(
            "every_kind",
            tmp_path,
            *arguments,
            *("--workers", "2", "--max-requests", "8"),
            SITE_DIRECTORY=str(tmp_path),
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            **GRPC,
        ) as server,
    ):
        with ThreadPoolExecutor(4) as clients:
            traces = list(clients.map(ask, range(20)))
            os.kill(server.pid, signal.SIGHUP)
            traces += clients.map(ask, range(20))
        stop_s(server)
        assert complaints(server) == []
    roots = [span for span in sink.spans if is_server(span)]
    assert sorted(span.trace_id for span in roots) == sorted(traces)
    assert all(len(sink.children_of(root)) >= 5 for root in roots)
    events = [log.trace_id for log in sink.logs if log.event_name == "canonical.request"]
    assert sorted(events) == sorted(traces)


def test_metrics_arrive_by_grpc(tmp_path: Path) -> None:
    """The third signal, by the same protocol."""
    with traced_site(
        tmp_path,
        receiver=grpc_sink,
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_METRIC_EXPORT_INTERVAL="100",
    ) as (server, sink):
        server.get("/ok/")
        eventually(
            lambda: any(
                metric.name == "http.server.request.duration" for metric in list(sink.metrics)
            ),
            server.report,
        )


@pytest.mark.parametrize("path", ["/exits-hard/", "/sleeps/"])
def test_root_of_dead_request_arrives_by_grpc(path: str, tmp_path: Path) -> None:
    """The reporter speaks it, too, and so does a worker that is being aborted."""
    with (
        grpc_sink() as sink,
        gunicorn(
            "stuck", tmp_path, *("-t", "2"), OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, **GRPC
        ) as server,
    ):
        send(server, path)
        line = server.line_of(request_id(path))
        root = sink.root_of(line)
        assert (root.span_id, root.status) == (line["span_id"], "ERROR")
        eventually(
            lambda: [
                log
                for log in list(sink.logs)
                if log.event_name == f"canonical.{line['event_type']}"
            ],
            server.report,
        )


@pytest.mark.parametrize("kind", ["down", "hanging"])
def test_stop_is_short_and_loss_is_told_when_nobody_answers_by_grpc(
    kind: str, tmp_path: Path
) -> None:
    """As by HTTP: requests don't notice, the stop keeps its bound, the counts are exact."""
    with (
        broken_collector(None if kind == "down" else hang) as endpoint,
        gunicorn(
            "every_kind", tmp_path, **impatient_settings(endpoint, tmp_path, **GRPC)
        ) as server,
    ):
        latencies_ms(server)
        assert stop_s(server) < FLUSH_S + GUNICORN_STOPS_S
        assert lost(server) == {"spans": REQUESTS_SENT, "log records": REQUESTS_SENT}, (
            server.report()
        )
        assert noise(server) == []
        assert len(complaints(server)) <= 2


def test_recycling_keeps_its_bound_when_collector_is_down(tmp_path: Path) -> None:
    """A worker that has served its requests makes way for the next one."""
    with (
        broken_collector(None) as endpoint,
        gunicorn(
            "every_kind",
            tmp_path,
            *("--max-requests", "3"),
            # Two shutdowns without a bound would take a minute.
            **impatient_settings(endpoint, tmp_path, **GRPC, OTEL_EXPORTER_OTLP_TIMEOUT="30"),
        ) as server,
    ):
        started = time.monotonic()
        for _ in range(9):
            assert server.get("/ok/").status == 200
        assert time.monotonic() - started < 45
        server.wait_for_lines(9)
