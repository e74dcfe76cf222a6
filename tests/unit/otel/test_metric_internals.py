"""A series that is aggregated directly has the points that the SDK makes of it: views, readers, exemplars."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.metrics import Histogram, NoOpMeterProvider
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Counter,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.otel import metric_internals, sdk_internals
from otel_canonical.otel.http_metrics import MOST_HELD, MOST_SERIES, HttpMetrics
from otel_canonical.otel.metric_internals import Aggregations
from otel_canonical.otel.root_span import RootSpan
from otel_canonical.request.scope import RequestScope

NAME = "http.server.request.duration"
EVENT = CanonicalEvent.of_pairs(EventType.REQUEST, ())
DURATIONS_MS = (3, 7, 7, 80, 3000, 20_000, 0)
TIMES = 4


class Measured:
    """HTTP metrics with an SDK of their own."""

    def __init__(self, *, readers: Sequence[InMemoryMetricReader] = (), **options: Any) -> None:
        self.readers = list(readers) or [InMemoryMetricReader()]
        self.provider = MeterProvider(self.readers, shutdown_on_exit=False, **options)
        self.metrics = HttpMetrics(self.provider.get_meter("test"))
        self.metrics.observe_active({})

    def serve(self, route: str | None, duration_ms: int = 7, status: int = 200) -> None:
        """Record a request of an exported trace, with ids of its own."""
        scope = RequestScope("GET", "/", {})
        scope.route, scope.status = route, status
        scope.ended_ns = scope.started_ns + duration_ms * 1_000_000
        ids = SpanContext(duration_ms + 1, status, False, TraceFlags(1))
        scope.root = RootSpan(NonRecordingSpan(ids), None, is_exported=True)
        self.metrics.record(EVENT, scope)

    def serve_all(self) -> None:
        """Record more than are held, of several series."""
        for _ in range(TIMES):
            for duration_ms in DURATIONS_MS:
                self.serve("a/", duration_ms)
                self.serve("b/", duration_ms, status=404)
                self.serve(None, duration_ms)

    def points(self) -> list[Any]:
        """Collect; return each reader's points, without the moments of recording."""
        return [list(points_of(reader)) for reader in self.readers]


def points_of(reader: InMemoryMetricReader) -> Iterator[Any]:
    """Collect; yield the histogram's points."""
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data is not None else ():
        for metric in resource.scope_metrics[0].metrics:
            if metric.name == "http.server.active_requests":
                continue
            for point in metric.data.data_points:
                exemplars = [
                    (one.value, one.trace_id, one.span_id, one.filtered_attributes)
                    for one in getattr(point, "exemplars", ())
                ]
                shown: dict[str, Any] = {
                    key: value
                    for key, value in vars(point).items()
                    if "time" not in key and key != "exemplars"
                }
                yield metric.name, metric.description, shown, exemplars


DELTA = {
    SdkHistogram: AggregationTemporality.DELTA,
    Counter: AggregationTemporality.DELTA,
}
CASES: dict[str, Any] = {
    "no view": dict,
    "fewer attributes": lambda: {
        "views": [View(instrument_name=NAME, attribute_keys={"http.request.method"})]
    },
    "one attribute": lambda: {"views": [View(instrument_name=NAME, attribute_keys={"http.route"})]},
    "no attributes": lambda: {"views": [View(instrument_name=NAME, attribute_keys=set())]},
    "name": lambda: {
        "views": [View(instrument_name=NAME, name="latency", description="of requests")]
    },
    "buckets": lambda: {
        "views": [
            View(instrument_name=NAME, aggregation=ExplicitBucketHistogramAggregation((0.1, 1)))
        ]
    },
    "exponential": lambda: {
        "views": [View(instrument_name=NAME, aggregation=ExponentialBucketHistogramAggregation())]
    },
    "sum": lambda: {"views": [View(instrument_name=NAME, aggregation=SumAggregation())]},
    "last": lambda: {"views": [View(instrument_name=NAME, aggregation=LastValueAggregation())]},
    "drop": lambda: {"views": [View(instrument_name=NAME, aggregation=DropAggregation())]},
    "two views": lambda: {
        "views": [
            View(instrument_name=NAME),
            View(instrument_name=NAME, name="by.route", attribute_keys={"http.route"}),
        ]
    },
    "delta": lambda: {"readers": [InMemoryMetricReader(DELTA)]},
    "two readers": lambda: {"readers": [InMemoryMetricReader(), InMemoryMetricReader(DELTA)]},
    "no exemplars": lambda: {"exemplar_filter": AlwaysOffExemplarFilter()},
    "all exemplars": lambda: {"exemplar_filter": AlwaysOnExemplarFilter()},
    "exemplars of traces": lambda: {"exemplar_filter": TraceBasedExemplarFilter()},
}


@pytest.mark.parametrize("case", CASES)
def test_points_are_the_sdks(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several collections, and with exemplars."""
    recorded: list[float] = []
    record = SdkHistogram.record

    def count(self: Histogram, amount: float, *args: Any, **kwargs: Any) -> None:
        recorded.append(amount)
        record(self, amount, *args, **kwargs)

    monkeypatch.setattr(SdkHistogram, "record", count)
    found = []
    for is_direct in (True, False):
        if not is_direct:
            monkeypatch.setattr(Aggregations, "of", lambda self, attributes: [])
        measured = Measured(**CASES[case]())
        recorded.clear()
        random.seed(7)  # some exemplars are drawn by lot
        for _ in range(3):
            measured.serve_all()
            found.append(measured.points())
        # Once for each series and collection, where that is all that the SDK has to do.
        most = 3 * 3 * len(measured.readers) if is_direct else 3 * 3 * TIMES * len(DURATIONS_MS)
        assert len(recorded) <= most
    assert found[:3] == found[3:]
    assert any(found) or case == "drop"


def test_reader_that_is_added_later_misses_nothing() -> None:
    """A series that was known before it came is in its first collection."""
    measured = Measured()
    for _ in range(MOST_HELD):
        measured.serve("a/")
    later = InMemoryMetricReader()
    measured.provider.add_metric_reader(later)
    for _ in range(2 * MOST_HELD):
        measured.serve("a/")
    [(_, _, point, _)] = points_of(later)
    assert point["count"] == 2 * MOST_HELD


def test_missing_name_leaves_recording_to_the_sdk(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And is reported once."""
    monkeypatch.setattr(sdk_internals, "_reported", set())
    caplog.set_level(logging.DEBUG)

    def gone(owner: object, name: str, use: str) -> Any:
        return sdk_internals.private(owner, f"{name}_renamed", use)

    monkeypatch.setattr(metric_internals, "private", gone)
    measured = Measured()
    measured.serve_all()
    [points] = measured.points()
    assert sum(point["count"] for _, _, point, _ in points) == 3 * TIMES * len(DURATIONS_MS)
    assert caplog.text.count("recording durations directly") == 1


def test_histogram_of_another_make_has_nothing_to_report(caplog: pytest.LogCaptureFixture) -> None:
    """It records by its own means."""
    histogram = NoOpMeterProvider().get_meter("test").create_histogram(NAME)
    aggregations = Aggregations(histogram)
    aggregations.have_changed()
    assert aggregations.of({}) == []
    assert caplog.text == ""


def test_remembered_series_are_bounded() -> None:
    """Routes that never come again take no memory here."""
    measured = Measured()
    for number in range(MOST_SERIES + 10 * MOST_HELD):
        measured.serve(f"{number}/")
    assert len(measured.metrics._series) <= MOST_SERIES + MOST_HELD
