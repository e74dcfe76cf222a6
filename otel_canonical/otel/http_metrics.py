"""Records the HTTP server metrics (semantic conventions, "HTTP metrics") of every request with a line.

Lives in the worker. The middleware of opentelemetry-instrumentation-django records the same metrics; it
is given a meter that does nothing, so that it can be skipped for requests that aren't exported. Requests
that Django never sees are counted here, too, and a streamed body's time is part of the duration.

The SDK records the first request of a series; the next ones go to where it has put that one, see
`metric_internals`.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.event.http_conventions import METHODS
from otel_canonical.otel.metric_internals import Aggregate, Aggregations, Measurement
from otel_canonical.otel.root_span import SPAN_KEY, error_type_of, root_of
from otel_canonical.request.scope import RequestScope

#: Upper bounds of the histogram's buckets, in seconds, as the conventions recommend.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

#: The histogram's attributes, in the order of `_Request`.
ATTRIBUTES = (
    "http.request.method",
    "url.scheme",
    "http.response.status_code",
    "http.route",
    "network.protocol.version",
    "error.type",
)
_Request = tuple[str, str, int | None, str | None, str | None, str | None]

#: Bounds the series that are remembered; the SDK's own memory of them has no bound.
MOST_SERIES = 2000

#: The context for a request that isn't exported. An empty one would mean the current context.
_NO_TRACE = trace.set_span_in_context(trace.INVALID_SPAN, Context())


class HttpMetrics:
    """Records the requests of one worker.

    Args:
        meter: makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        #: Series reported so far. A series that is no longer reported would keep its last value for ever.
        self._seen: set[tuple[str, str]] = set()
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._aggregations = Aggregations(self._duration)
        #: By series, its attributes and where it is aggregated.
        self._series: dict[_Request, tuple[dict[str, str | int], list[Aggregate]]] = {}

    def observe_active(self, in_flight: Mapping[int, RequestScope]) -> None:
        """Count the open requests in `in_flight` whenever metrics are collected."""

        def active(options: CallbackOptions) -> Iterable[Observation]:
            # The SDK may aggregate elsewhere when it has collected.
            self._series.clear()
            return self._active(in_flight)

        self._meter.create_observable_up_down_counter(
            "http.server.active_requests",
            [active],
            unit="{request}",
            description="Number of active HTTP server requests.",
        )

    def record(self, event: CanonicalEvent, scope: RequestScope) -> None:
        """Record a request that has ended."""
        root = root_of(scope)
        if root.is_excluded:
            return
        ended_ns = scope.ended_ns or scope.started_ns
        request = (
            scope.method if scope.method in METHODS else "_OTHER",
            scope.scheme or "http",
            scope.status,
            scope.route,
            scope.proto,
            error_type_of(event, scope),
        )
        # An exemplar links to the request's trace, if that is exported.
        context = Context({SPAN_KEY: root.span}) if root.is_exported else _NO_TRACE
        duration_s = (ended_ns - scope.started_ns) / 1e9
        if self._aggregations.have_changed() or len(self._series) >= MOST_SERIES:
            self._series.clear()
        attributes, aggregates = self._series.get(request, ({}, ()))
        if not aggregates:
            self._record_by_sdk(request, duration_s, context)
            return
        measurement = Measurement(duration_s, time.time_ns(), attributes, context)
        is_exemplar = self._aggregations.takes_exemplar(measurement)
        for aggregate in aggregates:
            aggregate(measurement, is_exemplar)

    def _record_by_sdk(self, request: _Request, duration_s: float, context: Context) -> None:
        self._seen.add(request[:2])
        attributes = {
            name: value
            for name, value in zip(ATTRIBUTES, request, strict=True)
            if value is not None
        }
        self._duration.record(duration_s, attributes, context)
        self._series[request] = attributes, self._aggregations.of(attributes)

    def _active(self, in_flight: Mapping[int, RequestScope]) -> Iterator[Observation]:
        active = Tally(
            (scope.method if scope.method in METHODS else "_OTHER", scope.scheme or "http")
            for scope in list(in_flight.values())
            if not root_of(scope).is_excluded
        )
        self._seen |= active.keys()
        for method, scheme in list(self._seen):  # a copy: other threads add to it
            yield Observation(
                active[method, scheme], {"http.request.method": method, "url.scheme": scheme}
            )
