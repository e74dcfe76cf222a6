"""A canonical log without a server, whose events are kept in a list."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.otel.root_factory import Recording, RootFactory
from otel_canonical.pool.place import Place
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.deferred_signals import DeferredSignals
from otel_canonical.request.progress import Outputs
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings


def a_log(
    events: list[CanonicalEvent],
    *,
    exporter: InMemorySpanExporter | None = None,
    sampler: Sampler = ALWAYS_ON,
    signals: DeferredSignals | None = None,
    place: Place | None = None,
) -> CanonicalLog:
    """Return a log that emits to a list and, if there is an exporter, makes spans."""
    roots = RootFactory(None, str)
    if exporter is not None:
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        roots.record_with(Recording(provider.get_tracer("test")))
    return CanonicalLog(*(Settings(), roots, into(events)), place=place, signals=signals)


def into(events: list[CanonicalEvent]) -> Outputs:
    """Return outputs that keep the events."""
    return Outputs(lambda event: b"", lambda event, line, slot: events.append(event))


def opened(log: CanonicalLog, **headers: str) -> RequestScope:
    """Open a request."""
    scope = log.open("GET", "/ok/", {name.replace("_", "-"): v for name, v in headers.items()})
    assert scope is not None
    scope.status = 200
    return scope
