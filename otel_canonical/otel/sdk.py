"""Sets up the OpenTelemetry SDK in a worker and connects it to our sampler, counters and log events.

Everything here runs after the fork and before the app is loaded.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Iterator

from opentelemetry import metrics, propagate, trace
from opentelemetry.instrumentation.auto_instrumentation import initialize
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

from otel_canonical import otel_config
from otel_canonical._version import __version__
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.otel import (
    driver_instrumentations,
    internal_spans,
    otlp_encoder,
    own_exports,
    query_spans,
    sdk_internals,
)
from otel_canonical.otel.call_counter import CallCounter
from otel_canonical.otel.driver_instrumentations import Treatment
from otel_canonical.otel.http_metrics import HttpMetrics
from otel_canonical.otel.prepared_spans import DirectWay, direct_way
from otel_canonical.otel.propagator import CallerOnlyPropagator
from otel_canonical.otel.redacted_spans import RedactedSpans
from otel_canonical.otel.root_factory import Recording, RootFactory
from otel_canonical.otel.sampler import (
    CLIENT_TRACERS,
    ClientSampler,
    CountingSampler,
    HeadSampler,
)
from otel_canonical.otel.tail_sampling import TailSampling
from otel_canonical.otel.uncounted import OURS
from otel_canonical.patching import patch
from otel_canonical.request.always_export import AlwaysExport
from otel_canonical.settings import Settings

#: The name under which DjangoInstrumentor makes its spans. Root spans are made under it, too.
DJANGO_INSTRUMENTATION = "opentelemetry.instrumentation.django"

#: Ours: the one counts no queries of Django's, the other keeps spans that aren't sampled.
NOT_CONCERNED: frozenset[type[SpanProcessor]] = frozenset((CallCounter, TailSampling))


def set_up() -> None:
    """Set up the SDK and the instrumentations, as `opentelemetry-instrument` does at process start."""
    otel_config.set_defaults()
    logging.getLogger("opentelemetry.attributes").addFilter(_is_no_eviction)
    initialize()
    # Outgoing calls are counted by spans, also where nothing can be exported.
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(TracerProvider())
    if otel_config.exports_anything():
        otlp_encoder.install()
        own_exports.keep_to_this_process()


def connect(settings: Settings, *, exports: bool, redaction: RedactionPolicy) -> RootFactory:
    """Put our sampler around the user's and our span processors beside the exporters.

    Args:
        settings: the operator's choice.
        exports: whether spans are exported.
        redaction: removes the secrets from what is exported.

    Returns:
        What opens the root of each request.
    """
    redact = redaction.text
    treatment = Treatment.BYPASS if settings.db_spans else Treatment.UNCOUNTED
    driver_instrumentations.treat(treatment)
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return RootFactory(None, redact)
    user_sampler = provider.sampler
    keeps = exports and AlwaysExport(settings).is_on
    sampler = CountingSampler(user_sampler if exports else None, records_all=keeps)
    provider.sampler = sampler
    redacted_spans = RedactedSpans(redaction)
    for processor in sdk_internals.span_processors(provider):
        redacted_spans.watch(processor)
    # Instrumentations that a configuration file has set up already hold tracers with their own sampler.
    for tracer in sdk_internals.tracers_of(provider):
        tracer.sampler = sampler
    count_clients(provider, sampler)
    provider.add_span_processor(CallCounter())
    root_tracer, head_sampler = _root_tracer(provider, sampler)
    export_kept = None
    if keeps:
        tail_sampling = TailSampling(functools.partial(_exporting_processors, provider))
        provider.add_span_processor(tail_sampling)
        export_kept = tail_sampling.release
    root_factory = RootFactory(None, redact, export_kept, names_all=otel_config.exports("logs"))
    make = functools.partial(_watching, redacted_spans, root_factory)
    patch(provider, "add_span_processor", make)
    find_way = functools.partial(_way_of, provider, root_tracer)

    def record() -> None:
        root_factory.record_with(Recording(root_tracer, head_sampler, sampler.rates(), find_way))
        tracer = provider.get_tracer(OURS, __version__)
        if settings.db_spans:
            query_spans.make_with(
                *(tracer, redact, redacted_spans.attributes),
                functools.partial(way_of_query_spans, provider, sampler),
            )
        internal_spans.make_with(
            tracer,
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


def count_clients(provider: TracerProvider, sampler: CountingSampler) -> None:
    """Have the spans of client libraries recorded as calls, also in requests that aren't exported."""
    for name in CLIENT_TRACERS:
        # Made now: the provider gives the library the same one when it asks.
        tracer = provider.get_tracer(name)
        if isinstance(tracer, SdkTracer):
            tracer.sampler = ClientSampler(sampler)


def _root_tracer(
    provider: TracerProvider, sampler: CountingSampler
) -> tuple[trace.Tracer, HeadSampler | None]:
    """Return the tracer for root spans and, where that changes nothing else, its `HeadSampler`."""
    tracer = provider.get_tracer(DJANGO_INSTRUMENTATION)
    # A custom generator's ids may have a meaning, and the SDK may have to count what isn't sampled.
    if (
        not isinstance(tracer, SdkTracer)
        or type(provider.id_generator) is not RandomIdGenerator
        or otel_config.sdk_counts_itself()
    ):
        return tracer, None
    head_sampler = HeadSampler(sampler)
    # A copy: the provider gives the original to everybody else who asks for a tracer of this name.
    tracer = copy.copy(tracer)
    tracer.sampler = tracer.id_generator = head_sampler
    return tracer, head_sampler


def way_of_query_spans(
    provider: TracerProvider, sampler: CountingSampler, span: Span
) -> DirectWay | None:
    """Return the way of query spans past the SDK, see `prepared_spans`."""
    if otel_config.sdk_counts_itself() or not sampler.follows_parents():
        return None
    return _way_of(provider, provider.get_tracer(OURS, __version__), span)


def _way_of(provider: TracerProvider, tracer: trace.Tracer, span: Span) -> DirectWay | None:
    if not isinstance(tracer, SdkTracer):
        return None
    find_encoding = functools.partial(otlp_encoder.encoding_ahead, otlp_encoder.SPANS)
    processors = sdk_internals.span_processors(provider)
    return direct_way(tracer, processors, NOT_CONCERNED, span, find_encoding)


def http_metrics() -> HttpMetrics:
    """Return what records the HTTP server metrics."""
    return HttpMetrics(metrics.get_meter("otel_canonical", __version__))


def _watching(
    redacted_spans: RedactedSpans,
    root_factory: RootFactory,
    add_span_processor: Callable[[SpanProcessor], None],
) -> Callable[[SpanProcessor], None]:
    """Redact what the exporters that the app adds in its own code are given, too."""

    def add_and_watch(span_processor: SpanProcessor) -> None:
        redacted_spans.watch(span_processor)
        add_span_processor(span_processor)
        query_spans.look_again()
        root_factory.look_again()

    return add_and_watch


def _is_no_eviction(record: logging.LogRecord) -> bool:
    """Drop the warning of each attribute that a full span loses: it is counted on the span."""
    return not str(record.msg).startswith("Attributes dict is full")


def _exporting_processors(provider: TracerProvider) -> Iterator[SpanProcessor]:
    """Yield the span processors that export."""
    for processor in sdk_internals.span_processors(provider):
        if isinstance(processor, BatchSpanProcessor | SimpleSpanProcessor):
            yield processor


def _export_later(
    provider: TracerProvider,
    sampler: CountingSampler,
    user_sampler: Sampler,
    record: Callable[[], None],
) -> None:
    """Start making spans as soon as the app adds a span processor in its own code."""

    def exporting(
        add_span_processor: Callable[[SpanProcessor], None],
    ) -> Callable[[SpanProcessor], None]:
        def add_and_export(span_processor: SpanProcessor) -> None:
            add_span_processor(span_processor)
            sampler.obey(user_sampler)
            record()

        return add_and_export

    patch(provider, "add_span_processor", exporting)
