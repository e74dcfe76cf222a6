"""What leaves over OTLP, weighed: bytes as exporters send them, attributes, and series of metrics."""

from __future__ import annotations

import gzip
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sink import SERVER_KIND, Sink

INSTANCE = "service.instance.id"
Attributes = tuple[tuple[str, str], ...]


class KeepingSink(Sink):
    """A sink that hands over the bodies themselves."""

    def bodies(self, row: str) -> dict[str, list[bytes]]:
        """Return what the row has sent, by signal, and forget it."""
        found: dict[str, list[bytes]] = {"traces": [], "logs": [], "metrics": []}
        with self._lock:
            for signal, body in self._bodies.pop(row, []):
                found[signal].append(body)
        return found


@dataclass(slots=True)
class Weight:
    """One kind of item: how many, how large, how many attributes each."""

    count: int = 0
    size: int = 0
    attributes: list[int] = field(default_factory=list)

    def add(self, item: Any) -> None:
        """Put one item on the scales."""
        self.count += 1
        self.size += item.ByteSize()
        self.attributes.append(len(item.attributes))

    def describe_attributes(self) -> str:
        """Return least, median and most."""
        counts = self.attributes or [0]
        return f"{min(counts)} / {statistics.median(counts):.0f} / {max(counts)}"


@dataclass(slots=True)
class Volume:
    """All of one run."""

    weights: dict[str, Weight]
    sent: dict[str, tuple[int, int, int]]  # signal -> posts, bytes, bytes with gzip
    values: dict[str, Counter[str]]  # attribute of a server span -> its values


def weigh(bodies: dict[str, list[bytes]]) -> Volume:
    """Return what spans and log events weigh."""
    weights = {"server spans": Weight(), "child spans": Weight(), "log events": Weight()}
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for span in _items(
        bodies["traces"], ExportTraceServiceRequest, "resource_spans.scope_spans.spans"
    ):
        is_server = span.kind == SERVER_KIND
        weights["server spans" if is_server else "child spans"].add(span)
        if is_server:
            for key, value in _attributes(span.attributes):
                values[key][value] += 1
    for record in _items(
        bodies["logs"], ExportLogsServiceRequest, "resource_logs.scope_logs.log_records"
    ):
        weights["log events"].add(record)
    sent = {
        signal: (len(found), sum(map(len, found)), sum(len(gzip.compress(body)) for body in found))
        for signal, found in bodies.items()
    }
    return Volume(weights, sent, values)


def find_series(bodies: list[bytes]) -> dict[str, set[tuple[str, Attributes]]]:
    """Return each metric's series: (instance, attributes of the point)."""
    series: dict[str, set[tuple[str, Attributes]]] = defaultdict(set)
    for body in bodies:
        request = ExportMetricsServiceRequest.FromString(body)
        for resource in request.resource_metrics:
            instance = dict(_attributes(resource.resource.attributes)).get(INSTANCE, "")
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    for point in data.data_points:
                        series[metric.name].add((instance, _attributes(point.attributes)))
    return series


def _items(bodies: Iterable[bytes], request: Any, path: str) -> Iterator[Any]:
    for body in bodies:
        level = [request.FromString(body)]
        for name in path.split("."):
            level = [item for outer in level for item in getattr(outer, name)]
        yield from level


def _attributes(pairs: Iterable[Any]) -> Attributes:
    return tuple(sorted((p.key, str(getattr(p.value, p.value.WhichOneof("value")))) for p in pairs))
