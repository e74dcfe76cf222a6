"""Keeps the SDK of a worker from exporting in the worker's forks.

Lives in the worker. The SDK starts its export threads anew in every fork, so a child of a view's
`os.fork()` would export under the worker's resource, and a request's root span a second time.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from otel_canonical.internal_errors import guarded
from otel_canonical.otel.exporter_internals import exporter_of
from otel_canonical.otel.sdk_internals import log_processors, span_processors
from otel_canonical.patching import patch
from otel_canonical.process.identity import own


def keep_to_this_process() -> None:
    """Make the exporters of the global providers do nothing in forks of this process."""
    for processor in (*span_processors(trace.get_tracer_provider()), *log_processors()):
        with guarded("keeping an exporter to its process"):
            exporter = exporter_of(processor)
            if exporter is not None:
                patch(exporter, "export", _in_own_process)
    patch(PeriodicExportingMetricReader, "collect", _in_own_process)


def _in_own_process(function: Callable[..., object]) -> Callable[..., object]:
    def call_in_own_process(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs) if own[0] else None

    return call_in_own_process
