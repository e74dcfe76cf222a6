"""What leaves the process, as the `OTEL_*` variables say. Pure but for `os.environ`.

Read in the arbiter (what to say at the start, what to prepare for `--preload`) and made definite in
each worker, before the SDK is set up there.
"""

from __future__ import annotations

import os

HOW_TO_EXPORT = (
    "nothing is exported (set OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 to send spans, "
    "metrics and logs to a collector)"
)

SIGNALS = ("traces", "metrics", "logs")

#: Which conventions instrumentations follow: the stable ones, not the former ones.
STABLE = "http,database"

#: Variables that only opentelemetry-instrumentation-django obeys.
ONLY_DJANGO_INSTRUMENTATION = (
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    "OTEL_PYTHON_DJANGO_TRACED_REQUEST_ATTRS",
)

#: One attribute more than this evicts the oldest; the SDK's own default is 128.
SPAN_ATTRIBUTES = "1000"


def exports(signal: str) -> bool:
    """Return whether `signal` (traces, metrics, logs) is exported.

    OpenTelemetry's own default is to export to a collector on this host; ours is to export only if
    the user names an exporter or an endpoint.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if is_declared():
        return True
    named = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip()
    if named:
        return named.lower() != "none"
    return _has_endpoint(signal)


def is_declared() -> bool:
    """Return whether a file configures the SDK; what it exports, only the SDK knows."""
    return bool(os.environ.get("OTEL_CONFIG_FILE"))


def exports_anything() -> bool:
    """Return whether any signal is exported."""
    return any(exports(signal) for signal in SIGNALS)


def describe() -> str:
    """Return a clause about what is exported, or how to turn it on."""
    signals = [signal for signal in SIGNALS if exports(signal)]
    return f"exporting {', '.join(signals)}" if signals else HOW_TO_EXPORT


def is_instrumentation_disabled(name: str) -> bool:
    """Return whether `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` names an instrumentation, or all."""
    text = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    return not {name, "*"}.isdisjoint(part.strip() for part in text.split(","))


def records_http_metrics() -> bool:
    """Return whether the metrics of HTTP servers are ours to record.

    If the user has opted into their former names, Django's instrumentation records both generations.
    """
    return exports("metrics") and _names_are_stable() and not is_instrumentation_disabled("django")


def needs_django_instrumentation() -> bool:
    """Return whether the user asks for what only opentelemetry-instrumentation-django does.

    All else of it the root span has from us: its attributes, its metrics, its place in the context.
    """
    return not _names_are_stable() or any(
        os.environ.get(name) for name in ONLY_DJANGO_INSTRUMENTATION
    )


def is_sdk_log_handler_enabled() -> bool:
    """Return whether the user has asked for the SDK's own (deprecated) handler of log records."""
    text = os.environ.get("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED", "")
    return text.strip().lower() == "true"


def set_defaults() -> None:
    """Write our defaults into the environment, where the SDK looks; what the user set stays."""
    default = os.environ.setdefault
    default("OTEL_PYTHON_DISTRO", "otel_canonical")
    default("OTEL_PYTHON_CONFIGURATOR", "otel_canonical")
    default("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    default("OTEL_SEMCONV_STABILITY_OPT_IN", STABLE)
    default("OTEL_PYTHON_METER_CONFIGURATOR", "otel_canonical")
    if "OTEL_ATTRIBUTE_COUNT_LIMIT" not in os.environ:
        default("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", SPAN_ATTRIBUTES)
    for signal in SIGNALS:
        if exports(signal):
            default(f"OTEL_{signal.upper()}_EXPORTER", "otlp")


def _names_are_stable() -> bool:
    names = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", STABLE).split(",")
    return "http" in [name.strip() for name in names]


def _has_endpoint(signal: str) -> bool:
    return any(
        os.environ.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    )
