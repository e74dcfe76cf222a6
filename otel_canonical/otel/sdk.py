"""The seam to the OpenTelemetry SDK in a worker: set it up, join it, get its log events.

Everything here runs after the fork, before the app is loaded.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import metrics, propagate, trace
from opentelemetry._logs import get_logger
from opentelemetry.instrumentation.auto_instrumentation import initialize
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Tracer

from otel_canonical import otel_config
from otel_canonical._version import __version__
from otel_canonical.otel import internal_spans, otlp_encoder
from otel_canonical.otel.call_counter import CallCounter
from otel_canonical.otel.http_metrics import HttpMetrics
from otel_canonical.otel.log_events import LogEvents
from otel_canonical.otel.propagator import CallerOnlyPropagator
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.otel.sampler import CountingSampler, HeadSampler
from otel_canonical.otel.tail_sampling import TailSampling
from otel_canonical.request.always_export import AlwaysExport
from otel_canonical.settings import Settings

#: The name under which DjangoInstrumentor makes its spans; the root span is made under it, for it.
DJANGO_INSTRUMENTATION = "opentelemetry.instrumentation.django"


def set_up() -> None:
    """Do what `opentelemetry-instrument` does at the start of a process: SDK and instrumentations."""
    otel_config.set_defaults()
    initialize()
    if otel_config.exports_anything():
        otlp_encoder.join()


def join(settings: Settings, *, exports: bool, redact: Callable[[str], str]) -> RootFactory:
    """Put our sampler around the user's and our counter beside the exporters.

    Args:
        settings: the operator's choice.
        exports: whether spans leave the process.
        redact: takes the secrets out of a text.

    Returns:
        Opens the root span of each request.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return RootFactory(None, redact)
    user_sampler = provider.sampler
    keeps = AlwaysExport(settings).is_on
    sampler = CountingSampler(user_sampler if exports else None, records_all=keeps and exports)
    provider.sampler = sampler
    # Instrumentations of a declarative configuration already hold tracers, each with its sampler.
    for tracer in list(getattr(provider, "_tracers", {}).values()):
        tracer.sampler = sampler
    provider.add_span_processor(CallCounter())
    root_tracer, head_sampler = _root_tracer(provider, sampler)
    export_kept = None
    if keeps and exports:
        tail_sampling = TailSampling(functools.partial(_exporting_processors, provider))
        provider.add_span_processor(tail_sampling)
        export_kept = tail_sampling.release
    root_factory = RootFactory(None, redact, export_kept)

    def record() -> None:
        root_factory.record_with(root_tracer, head_sampler, sampler.rates())
        internal_spans.make_with(
            provider.get_tracer("otel_canonical", __version__),
            templates=settings.template_spans,
            caches=settings.cache_spans,
        )

    if exports:
        record()
    else:
        propagate.set_global_textmap(
            CallerOnlyPropagator(propagate.get_global_textmap(), root_factory.is_exporting)
        )
        _export_later(provider, sampler, user_sampler, record)
    return root_factory


def _root_tracer(
    provider: TracerProvider, sampler: CountingSampler
) -> tuple[Tracer, HeadSampler | None]:
    """Return what makes roots and, unless that would be noticed, what is asked before it does."""
    tracer: Any = provider.get_tracer(DJANGO_INSTRUMENTATION)
    # Other generators' ids may mean something; and the SDK can be told to count what is not sampled.
    counts = os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower()
    if type(provider.id_generator) is not RandomIdGenerator or counts == "true":
        return tracer, None
    head_sampler = HeadSampler(sampler)
    # A copy: whoever asks for a tracer of this name gets the one that asks for itself.
    tracer = copy.copy(tracer)
    tracer.sampler = tracer.id_generator = head_sampler
    return tracer, head_sampler


def http_metrics() -> HttpMetrics:
    """Return what records the metrics of HTTP servers."""
    return HttpMetrics(metrics.get_meter("otel_canonical", __version__))


def log_events() -> LogEvents:
    """Return the way out through the Logs API."""
    return LogEvents(get_logger("otel_canonical", __version__))


def _exporting_processors(provider: Any) -> Iterator[SpanProcessor]:
    """Return the processors that export; nothing public tells."""
    for processor in provider._active_span_processor._span_processors:
        if isinstance(processor, BatchSpanProcessor | SimpleSpanProcessor):
            yield processor


def _export_later(
    provider: Any, sampler: CountingSampler, user_sampler: Any, record: Callable[[], None]
) -> None:
    """Start making spans when the app adds a span processor of its own in code."""
    add_span_processor = provider.add_span_processor

    def add_and_export(processor: Any) -> None:
        add_span_processor(processor)
        sampler.obey(user_sampler)
        record()

    provider.add_span_processor = add_and_export
