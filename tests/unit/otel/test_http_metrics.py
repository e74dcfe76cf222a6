"""HttpMetrics: every request is recorded, with the trace that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import (
    AlwaysOnExemplarFilter,
    ExemplarFilter,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.otel.http_metrics import HttpMetrics
from otel_canonical.otel.root_factory import Recording, RootFactory
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.progress import Outputs
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings


class Measured:
    """A log whose requests are recorded by an SDK."""

    def __init__(self, filter_: ExemplarFilter, *, exports: bool) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], exemplar_filter=filter_)
        roots = RootFactory(None, str)
        if exports:
            roots.record_with(Recording(TracerProvider(shutdown_on_exit=False).get_tracer("test")))
        self.metrics = HttpMetrics(self.provider.get_meter("test"))
        self.log = CanonicalLog(
            Settings(), roots, Outputs(lambda event: b"", lambda event, line, slot: None, self.emit)
        )
        self.metrics.observe_active(self.log.in_flight)

    def emit(self, event: CanonicalEvent, scope: RequestScope) -> None:
        """Record."""
        self.metrics.record(event, scope)

    def serve(self, route: str, status: int = 200) -> RequestScope:
        """Open and close a request."""
        scope = self.log.open("GET", f"/{route}", {})
        assert scope is not None
        scope.route, scope.status, scope.proto = route, status, "1.1"
        self.log.close(scope)
        return scope

    def points(self) -> dict[str, Any]:
        """Collect; return the histogram's points by their routes."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            point.attributes["http.route"]: point
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == "http.server.request.duration"
            for point in metric.data.data_points
        }


@pytest.fixture(params=[TraceBasedExemplarFilter, AlwaysOnExemplarFilter])
def exemplar_filter(request: pytest.FixtureRequest) -> Iterator[ExemplarFilter]:
    """What an operator may choose by `OTEL_METRICS_EXEMPLAR_FILTER`."""
    return request.param()


@pytest.mark.parametrize("requests", [1, 2, 20])
def test_every_request_is_in_the_next_collection(requests: int) -> None:
    """The first one of its series, and the next ones."""
    measured = Measured(TraceBasedExemplarFilter(), exports=False)
    for _ in range(requests):
        measured.serve("kept/")
    measured.serve("failed/", 500)
    points = measured.points()
    assert (points["kept/"].count, points["failed/"].count) == (requests, 1)
    assert dict(points["kept/"].attributes) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.route": "kept/",
        "network.protocol.version": "1.1",
    }
    assert points["failed/"].attributes["error.type"] == "500"
    measured.serve("kept/")
    assert measured.points()["kept/"].count == requests + 1


def test_exemplar_leads_to_the_trace_of_its_request(exemplar_filter: ExemplarFilter) -> None:
    """One whose trace is exported is recorded with it."""
    measured = Measured(exemplar_filter, exports=True)
    first, last = measured.serve("traced/"), measured.serve("traced/")
    ids = {
        (f"{exemplar.trace_id:032x}", f"{exemplar.span_id:016x}")
        for exemplar in measured.points()["traced/"].exemplars
    }
    # A bucket has the last one; the first may be in another bucket.
    assert (last.root.trace_id, last.root.span_id) in ids
    assert ids <= {(scope.root.trace_id, scope.root.span_id) for scope in (first, last)}


def test_no_exemplar_leads_to_another_trace(exemplar_filter: ExemplarFilter) -> None:
    """A request that others are recorded in is not what they were."""
    measured = Measured(exemplar_filter, exports=False)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("another"):
        for _ in range(3):
            measured.serve("untraced/")
    for exemplar in measured.points()["untraced/"].exemplars:
        assert not exemplar.trace_id
        assert not exemplar.span_id
