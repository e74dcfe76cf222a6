"""The private names of OpenTelemetry's API and SDK that we use, each behind one function.

Those of its instrumentations are in `instrumentation_internals`. No other module uses a private name of
OpenTelemetry; a test checks that. Each function links to the upstream code and says what is lost when
upstream renames it. The rule is the same for all: one report in Gunicorn's error log, one feature less,
and requests and their lines go on.

Logs are the exception. `opentelemetry._logs` and `opentelemetry.sdk._logs` are the documented and only
home of the Logs API and SDK; the underscore means "may change", not "keep out"
(https://github.com/open-telemetry/opentelemetry-python/issues/4722). They are imported here, once, and
other modules import them from here. If they move, only `log_events` and `app_logs` fail to import; `logs`
loads these two, reports that, and no logs are exported.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext

from otel_canonical.internal_errors import report
from otel_canonical.patching import patch

if TYPE_CHECKING:
    from opentelemetry.sdk._shared_internal._processor_metrics import ProcessorMetricsT

try:
    from opentelemetry._logs import (
        Logger,
        LogRecord,
        SeverityNumber,
        get_logger,
        get_logger_provider,
    )
    from opentelemetry.sdk._logs import Logger as SdkLogger
    from opentelemetry.sdk._logs import (
        LogRecordLimits,
        LogRecordProcessor,
        ReadableLogRecord,
        ReadWriteLogRecord,
    )
except ImportError as error:
    report("importing OpenTelemetry's Logs API (nothing is exported as logs)", error)

__all__ = [
    "LogRecord",
    "Logger",
    "ReadWriteLogRecord",
    "ReadableLogRecord",
    "SdkLogger",
    "SeverityNumber",
    "get_logger",
]

#: More than the spans of queries have.
MANY_ATTRIBUTES = 32

#: Exporters that call an `encode_…` function of their own module. If one is gone, it isn't found among the
#: loaded modules, and upstream's encoder stays in use, which is slower.
#: https://github.com/open-telemetry/opentelemetry-python/pull/2252 (why `_log_exporter`)
OTLP_SPAN_EXPORTERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
)
OTLP_LOG_EXPORTERS = (
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.grpc._log_exporter",
)

#: Loggers of the SDK that complain about a collector, named after private modules. If one is renamed,
#: all of its complaints appear in the log again.
#: https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/_shared_internal/__init__.py
SDK_LOGGERS = (
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.metrics._internal.export",
    "opentelemetry.sdk._logs._internal.export",
    "opentelemetry.sdk.trace.export",
)

_reported: set[str] = set()


def private(owner: object, name: str, use: str) -> Any:
    """Return a private attribute; None, and one report per process, if upstream has renamed it.

    Args:
        owner: an object, class or module of OpenTelemetry's.
        name: the attribute's name.
        use: what it is needed for, as the report says it.
    """
    try:
        return getattr(owner, name)
    except AttributeError as error:
        report_missing(name, use, error)
        return None


def module(name: str, use: str) -> Any:
    """Return a private module; None, and one report per process, if it can't be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        report_missing(name, use, error)
        return None


def report_missing(name: str, use: str, error: Exception) -> None:
    """Report, once per process and use, that a private name isn't there."""
    if use not in _reported:
        _reported.add(use)
        report(f"{use} (this version of OpenTelemetry has no `{name}`)", error)


def span_key() -> str:
    """Return the key under which a context keeps its current span.

    Found by asking the public API, because `_SPAN_KEY` is private: a rename changes nothing here.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-api/src/opentelemetry/trace/propagation/__init__.py
    """
    return next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))


def context_variable() -> ContextVar[Context] | None:
    """Return the variable that holds the current context; without it a request takes two calls more, twice.

    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-api/src/opentelemetry/context/contextvars_context.py
    """
    variable = getattr(getattr(otel_context, "_RUNTIME_CONTEXT", None), "_current_context", None)
    return variable if isinstance(variable, ContextVar) else None


class LazyContextSpan(NonRecordingSpan):
    """A span that doesn't record and makes its `SpanContext` when asked for it.

    The base class keeps one in `_context` for its `repr`, which fails if upstream renames that.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-api/src/opentelemetry/trace/span.py
    """

    @property
    def _context(self) -> SpanContext:  # type: ignore[override]
        return self.get_span_context()


def sdk_configure() -> Callable[..., None] | None:
    """Return what sets the SDK up from `OTEL_*` variables; without it nothing is exported.

    Distros are meant to use that class, private name or not:
    https://github.com/open-telemetry/opentelemetry-python/pull/1937
    """
    configuration = module("opentelemetry.sdk._configuration", "setting the SDK up")
    kind = configuration and private(configuration, "_OTelSDKConfigurator", "setting the SDK up")
    configure: Callable[..., None] | None = kind().configure if kind else None
    return configure


def tracers_of(provider: TracerProvider) -> list[Tracer]:
    """Return the tracers that exist already; without them an early tracer keeps the user's sampler.

    That one then records no calls of requests that aren't exported.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/trace/__init__.py
    """
    return list((private(provider, "_tracers", "looking for early tracers") or {}).values())


def span_processors(provider: object) -> Sequence[SpanProcessor]:
    """Return the span processors of a provider; without them lost spans are not counted.

    Nor are requests exported then because of `OTEL_PYTHON_CANONICAL_ALWAYS_EXPORT`.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/trace/__init__.py
    """
    if not isinstance(provider, TracerProvider):
        return ()
    use = "looking for the exporters of spans"
    together = private(provider, "_active_span_processor", use)
    return () if together is None else private(together, "_span_processors", use) or ()


def log_processors() -> Sequence[LogRecordProcessor]:
    """Return the log record processors in force; without them lost log records are not counted.

    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/_logs/_internal/__init__.py
    """
    provider = logger_provider()
    if not hasattr(provider, "add_log_record_processor"):
        return ()
    use = "looking for the exporters of log records"
    together = private(provider, "_multi_log_record_processor", use)
    return () if together is None else private(together, "_log_record_processors", use) or ()


def logger_provider() -> object:
    """Return the logger provider in force, None if the Logs API has moved."""
    try:
        return get_logger_provider()
    except NameError:
        return None


class BatchQueue:
    """The queue of a batch processor. If a name is gone, dropped or waiting records are not counted.

    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/_shared_internal/__init__.py
    """

    def __init__(self, processor: object) -> None:
        # Absent in processors without a queue.
        self._batch: object | None = getattr(processor, "_batch_processor", None)

    def __len__(self) -> int:
        use = "counting what waits for an exporter"
        return len((self._batch and private(self._batch, "_queue", use)) or ())

    def on_enqueue(self, make: Callable[[Callable[..., object]], Callable[..., object]]) -> bool:
        """Patch what puts a record into the queue; return whether there is a queue."""
        return self._batch is not None and patch(self._batch, "emit", make)

    def on_drop(self, lose: Callable[[int], None]) -> None:
        """Call `lose` with the number of records whenever the queue is full and drops some."""
        use = "counting what a full queue drops"
        if self._batch is not None and private(self._batch, "_metrics", use) is not None:
            patch(self._batch, "_metrics", functools.partial(_CountedDrops, lose))


class _CountedDrops:
    """Self-metrics that also count drops for us."""

    def __init__(self, lose: Callable[[int], None], metrics: ProcessorMetricsT) -> None:
        self._metrics = metrics
        self._lose = lose

    def __getattr__(self, name: str) -> object:
        return getattr(self._metrics, name)

    def drop_items(self, count: int, *args: str, **kwargs: str) -> None:
        self._metrics.drop_items(count, *args, **kwargs)
        self._lose(count)


def root_sampler_of(sampler: Sampler) -> Sampler | None:
    """Return the sampler that a `ParentBased` one asks about roots.

    If it is gone, `canonical.sample_rate` is absent and the sampler is asked about every request.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/trace/sampling.py
    """
    root: Sampler | None = private(sampler, "_root", "reading the sampling rate")
    return root


def local_sampler_of(sampler: Sampler) -> Sampler | None:
    """Return the sampler that a `ParentBased` one asks below sampled spans of this process.

    If it is gone, the SDK makes the spans of queries, which costs more.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/trace/sampling.py
    """
    use = "reading how spans of queries are sampled"
    local: Sampler | None = private(sampler, "_local_parent_sampled", use)
    return local


def cuts_attributes(span: object) -> bool:
    """Return whether a span may hold fewer attributes, or shorter ones, than the SDK does by default.

    If the limits are gone, that is taken for true, and the SDK makes the spans of queries.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/trace/__init__.py
    """
    limits = private(span, "_limits", "reading the limits of spans")
    if limits is None or limits.max_span_attribute_length is not None:
        return True
    most: int | None = limits.max_span_attributes
    return most is not None and most < MANY_ATTRIBUTES


def attribute_limit_of(span: object) -> int | None:
    """Return how many attributes a span holds at most, None if there is no limit.

    If it is gone, a full span loses its oldest attributes instead of its least important ones.
    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/trace/__init__.py
    """
    limit: int | None = getattr(getattr(span, "_limits", None), "max_span_attributes", None)
    return limit


def record_limits_of(logger: Logger) -> LogRecordLimits:
    """Return the limits of a logger's records; those of the environment if the attribute is gone.

    https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-sdk/src/opentelemetry/sdk/_logs/_internal/__init__.py
    """
    limits: LogRecordLimits | None = None
    if isinstance(logger, SdkLogger):
        limits = private(logger, "_log_record_limits", "reading the limits of log records")
    return limits or LogRecordLimits()
