"""The metrics of HTTP servers (semantic conventions, "HTTP metrics"), of every request with a line.

Lives in the worker. opentelemetry-instrumentation-django records the same ones in its middleware; it is
given a meter that does nothing, so that it can step aside for requests whose spans nobody will see. Here
a request that Django never saw is counted, too, and a streamed body's time is in its duration.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.util.types import AttributeValue

from otel_canonical.event import CanonicalEvent
from otel_canonical.request_scope import RequestScope
from otel_canonical.root_span import METHODS, error_type_of

#: Upper bounds of the histogram's buckets, in seconds, as the conventions advise.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class HttpMetrics:
    """Records the requests of one worker.

    Args:
        meter: makes the instruments.
        in_flight: the open requests, by anything; read when metrics are collected.
    """

    def __init__(self, meter: Meter, in_flight: Mapping[int, RequestScope]) -> None:
        self._in_flight = in_flight
        #: Series that there have been: one that is not told of keeps its last value for ever.
        self._seen: set[tuple[str, str]] = set()
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        meter.create_observable_up_down_counter(
            "http.server.active_requests",
            [self._active],
            unit="{request}",
            description="Number of active HTTP server requests.",
        )

    def record(self, event: CanonicalEvent, scope: RequestScope) -> None:
        """Record a request that has ended."""
        if scope.root.is_excluded:
            return
        method = scope.method if scope.method in METHODS else "_OTHER"
        scheme = scope.scheme or "http"
        self._seen.add((method, scheme))
        attributes: dict[str, AttributeValue] = {
            "http.request.method": method,
            "url.scheme": scheme,
        }
        if scope.status is not None:
            attributes["http.response.status_code"] = scope.status
        if scope.route is not None:
            attributes["http.route"] = scope.route
        if scope.proto is not None:
            attributes["network.protocol.version"] = scope.proto
        if (error_type := error_type_of(event, scope)) is not None:
            attributes["error.type"] = error_type
        ended_ns = scope.ended_ns or scope.started_ns
        self._duration.record((ended_ns - scope.started_ns) / 1e9, attributes)

    def _active(self, options: CallbackOptions) -> Iterable[Observation]:
        active = Tally(
            (scope.method if scope.method in METHODS else "_OTHER", scope.scheme or "http")
            for scope in list(self._in_flight.values())
            if not scope.root.is_excluded
        )
        self._seen |= active.keys()
        for method, scheme in list(self._seen):  # requests go on adding to it
            yield Observation(
                active[method, scheme], {"http.request.method": method, "url.scheme": scheme}
            )
