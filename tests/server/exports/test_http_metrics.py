"""OpenTelemetry's HTTP metrics of a server: each request once, none active for ever."""

from __future__ import annotations

from pathlib import Path

from tests.support.servers import eventually
from tests.support.traced_site import Traced, traced_site

REQUESTS = 19


def test_metrics_count_each_request_once_when_exported(traced: Traced) -> None:
    """Django's instrumentation goes on recording what it records."""
    for _ in range(3):
        traced.ask("/item/counted/")

    def counted() -> int:
        return max(
            [
                metric.count
                for metric in list(traced.sink.metrics)
                if metric.name == "http.server.request.duration"
                and metric.attributes.get("http.route") == "item/<slug:slug>/"
                and metric.attributes.get("http.response.status_code") == 200
            ],
            default=0,
        )

    lines = [
        line
        for line in traced.server.lines()
        if line.get("req_route") == "item/<slug:slug>/" and line["resp_status"] == "200"
    ]
    eventually(lambda: counted() >= len(lines), lambda: f"{counted()} instead of {len(lines)}")
    assert counted() == len(lines)


def test_metrics_return_to_zero_when_requests_are_over(traced: Traced) -> None:
    """No request is counted as active for ever, not even one that ended in SystemExit."""
    for path in ("/exits/", "/raises/", "/item/active/"):
        traced.ask(path)

    def active() -> dict[str, float]:
        return {
            repr(sorted(metric.attributes.items())): metric.value
            for metric in list(traced.sink.metrics)
            if metric.name == "http.server.active_requests"
        }

    eventually(lambda: active() and not any(active().values()), lambda: f"still active: {active()}")


def test_requests_since_the_last_collection_are_exported_at_a_stop(tmp_path: Path) -> None:
    """A worker that leaves has told of all that it served."""
    with traced_site(tmp_path, OTEL_TRACES_SAMPLER="always_off") as served:
        for _ in range(REQUESTS):
            served.server.get("/item/counted/")
    counts = [
        metric.count
        for metric in served.sink.metrics
        if metric.name == "http.server.request.duration"
        and metric.attributes.get("http.route") == "item/<slug:slug>/"
    ]
    assert max(counts) == REQUESTS
