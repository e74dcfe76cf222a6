"""The private names of OpenTelemetry's metrics, behind one class. The same rules as in `sdk_internals`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import Histogram as SdkHistogram

from otel_canonical.otel.sdk_internals import private

USE = "recording durations directly"


class Measurement(NamedTuple):
    """What an aggregation reads of a measurement."""

    value: float
    time_unix_nano: int
    attributes: Mapping[str, Any]
    context: Context


#: Takes a measurement, and whether it may become an exemplar.
Aggregate = Callable[[Measurement, bool], None]


class Aggregations:
    """Finds what the SDK aggregates a histogram's measurements in: one for each reader and view.

    For each measurement the SDK checks its attributes, hashes them and looks the aggregations up. That
    is three quarters of what it costs, and comes out the same for the next request to the same route.
    If a name is gone, nothing is found, and the SDK records everything itself.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/metrics/_internal/measurement_consumer.py

    Args:
        histogram: of the SDK.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._consumer: Any = None
        if isinstance(histogram, SdkHistogram):
            self._consumer = private(histogram, "_measurement_consumer", USE)
        self._storages: Mapping[object, object] | None = None
        config = self._consumer and private(self._consumer, "_sdk_config", USE)
        self._filter: Any = getattr(config, "exemplar_filter", None)

    def have_changed(self) -> bool:
        """Return whether there are other readers than when this was asked last."""
        storages = self._consumer and private(self._consumer, "_reader_storages", USE)
        has_changed = storages is not self._storages
        self._storages = storages
        return has_changed

    def of(self, attributes: Mapping[str, Any]) -> list[Aggregate]:
        """Return those of a series that the SDK has recorded once; none if they can't be found."""
        found: list[Aggregate] = []
        if self._filter is None:
            return found
        for storage in (self._storages or {}).values():
            by_instrument = private(storage, "_instrument_view_instrument_matches", USE) or {}
            for match in by_instrument.get(self._histogram, ()):
                # A view may have left attributes out; of the series that agree the longest is this one's.
                by_attributes = private(match, "_attributes_aggregation", USE) or {}
                agreeing = [
                    (len(kept), aggregation.aggregate)
                    for aggregation in list(by_attributes.values())
                    if (kept := private(aggregation, "_attributes", USE)) is not None
                    and kept.items() <= attributes.items()
                ]
                if not agreeing:
                    return []
                found.append(max(agreeing, key=lambda one: one[0])[1])
        return found

    def takes_exemplar(self, measurement: Measurement) -> bool:
        """Return whether a measurement may become an exemplar."""
        return bool(self._filter.should_sample(*measurement))
