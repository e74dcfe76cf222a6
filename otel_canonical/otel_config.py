"""Reads from the `OTEL_*` variables what is exported, and sets their defaults. Uses only `os.environ`.

The arbiter reads them for its start-up message and to prepare for `--preload`. Each worker writes the
defaults into its environment before it sets the SDK up.
"""

from __future__ import annotations

import os
from urllib.parse import unquote

from otel_canonical.otel_environment.exports import SIGNALS, endpoint_of, protocol_of
from otel_canonical.otel_environment.variables import without_secrets

HOW_TO_EXPORT = (
    "nothing is exported (set OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 to send spans, "
    "metrics and logs to a collector)"
)

#: Makes instrumentations use the stable semantic conventions.
STABLE = "http,database"

#: Variables for features that only opentelemetry-instrumentation-django has.
ONLY_DJANGO_INSTRUMENTATION = (
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    "OTEL_PYTHON_DJANGO_TRACED_REQUEST_ATTRS",
)

#: Shorter values of headers are not looked for in messages: `1` is in many.
SHORTEST_SECRET = 4

#: A span with more attributes evicts the oldest ones. The SDK's default is 128.
SPAN_ATTRIBUTES = "1000"


def exports(signal: str) -> bool:
    """Return whether `signal` (traces, metrics, logs) is exported.

    By default OpenTelemetry exports to a collector on this host. We export only if the user names an
    exporter or an endpoint.
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
    """Return whether a file configures the SDK; then we assume that it exports everything."""
    return bool(os.environ.get("OTEL_CONFIG_FILE"))


def exports_anything() -> bool:
    """Return whether any signal is exported."""
    return any(exports(signal) for signal in SIGNALS)


def describe() -> str:
    """Return what is exported and to where, or how to switch exports on, for the start-up message."""
    if is_declared() and exports_anything():
        return f"exporting what {os.environ['OTEL_CONFIG_FILE']} says"
    destinations: dict[str, list[str]] = {}
    for signal in SIGNALS:
        if exports(signal):
            destinations.setdefault(_destination(signal), []).append(signal)
    said = [f"{', '.join(signals)} to {where}" for where, signals in destinations.items()]
    return f"exporting {' and '.join(said)}" if said else HOW_TO_EXPORT


def _destination(signal: str) -> str:
    """Return where a signal is exported to: by which exporters, and for OTLP the address."""
    shown: list[str] = []
    for name in os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").split(","):
        if name.strip().startswith("otlp"):
            where = without_secrets(endpoint_of(os.environ, signal))
            shown.append(f"{where} ({protocol_of(os.environ, signal)})")
        else:
            shown.append(name.strip())
    return " and ".join(shown)


def is_instrumentation_disabled(name: str) -> bool:
    """Return whether `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` disables an instrumentation."""
    text = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    return not {name, "*"}.isdisjoint(part.strip() for part in text.split(","))


def records_http_metrics() -> bool:
    """Return whether we record the HTTP server metrics.

    If the user asks for their former names, Django's instrumentation records both kinds instead.
    """
    return exports("metrics") and _names_are_stable() and not is_instrumentation_disabled("django")


def needs_django_instrumentation() -> bool:
    """Return whether the user wants a feature that only opentelemetry-instrumentation-django has.

    We do the rest ourselves: attributes, metrics, and making the root span current.
    """
    return not _names_are_stable() or any(
        os.environ.get(name) for name in ONLY_DJANGO_INSTRUMENTATION
    )


def sdk_counts_itself() -> bool:
    """Return whether the SDK counts spans and log records for metrics of its own."""
    counts = os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "")
    return counts.strip().lower() == "true"


def is_sdk_log_handler_enabled() -> bool:
    """Return whether the user has switched on the SDK's own (deprecated) handler of log records."""
    text = os.environ.get("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED", "")
    return text.strip().lower() == "true"


def is_log_handler_wanted() -> bool:
    """Return whether the user asks for the handler of opentelemetry-instrumentation-logging."""
    return os.environ.get("OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION", "").strip().lower() == "true"


def header_values() -> set[str]:
    """Return the values of the headers that exporters send, as they are written and as they are sent."""
    found: set[str] = set()
    for name, text in os.environ.items():
        if name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("HEADERS"):
            values = [part.partition("=")[2].strip() for part in text.split(",")]
            found.update(values, map(unquote, values))
    return {value for value in found if len(value) >= SHORTEST_SECRET}


def set_defaults() -> None:
    """Set our defaults in the environment, where the SDK reads them; the user's values stay."""
    default = os.environ.setdefault
    default("OTEL_PYTHON_DISTRO", "otel_canonical")
    default("OTEL_PYTHON_CONFIGURATOR", "otel_canonical")
    default("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    default("OTEL_SEMCONV_STABILITY_OPT_IN", STABLE)
    if "OTEL_ATTRIBUTE_COUNT_LIMIT" not in os.environ:
        default("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", SPAN_ATTRIBUTES)
    for signal in SIGNALS:
        if exports(signal):
            default(f"OTEL_{signal.upper()}_EXPORTER", "otlp")


def forget_variables() -> None:
    """Remove all `OTEL_*` variables but ours: OpenTelemetry then has its defaults, and exports nothing."""
    for name in list(os.environ):
        if name.startswith("OTEL_") and not name.startswith(
            ("OTEL_PYTHON_CANONICAL_", "OTEL_CANONICAL_")
        ):
            del os.environ[name]
    export_nothing()


def export_nothing() -> None:
    """Set the exporter of each signal to none."""
    for signal in SIGNALS:
        os.environ[f"OTEL_{signal.upper()}_EXPORTER"] = "none"


def _names_are_stable() -> bool:
    names = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", STABLE).split(",")
    return "http" in [name.strip() for name in names]


def _has_endpoint(signal: str) -> bool:
    return any(
        os.environ.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    )
