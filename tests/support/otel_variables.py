"""The variables that OpenTelemetry documents, read from its own modules, in groups that don't hide each other."""

from __future__ import annotations

from opentelemetry import environment_variables as api
from opentelemetry.instrumentation import environment_variables as instrumentation
from opentelemetry.sdk import environment_variables as sdk

#: Nonsense that each variable is tried with.
VALUES = ("abc", "-1", "")

#: Documented elsewhere: by instrumentations, and as texts.
_OTHERS = (
    *("OTEL_PYTHON_EXCLUDED_URLS", "OTEL_PYTHON_DJANGO_EXCLUDED_URLS"),
    *("OTEL_PYTHON_REQUESTS_EXCLUDED_URLS", "OTEL_PYTHON_LOG_CORRELATION"),
    *(
        "OTEL_PYTHON_LOG_LEVEL",
        "OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION",
        "OTEL_PYTHON_LOGGER_PROVIDER",
    ),
    *("OTEL_SEMCONV_STABILITY_OPT_IN", "OTEL_PYTHON_DJANGO_INSTRUMENT"),
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS",
    "OTEL_PYTHON_DJANGO_TRACED_REQUEST_ATTRS",
)

_DOCUMENTED = {
    value
    for module in (api, sdk, instrumentation)
    for name, value in vars(module).items()
    if name.lstrip("_").startswith("OTEL_") and isinstance(value, str)
}

EVERY_VARIABLE = sorted({*_DOCUMENTED, *_OTHERS})


def _those_with(*parts: str) -> tuple[str, ...]:
    return tuple(name for name in EVERY_VARIABLE if any(part in name for part in parts))


_EXPORTER_NAMES = _those_with("S_EXPORTER")
_OTLP = _those_with("EXPORTER_OTLP")
_ADDRESSES = tuple(name for name in _OTLP if "ENDPOINT" in name or "PROVIDER" in name)

#: Within a group no wrong value keeps another one from being read.
GROUPS: dict[str, tuple[str, ...]] = {
    "exporters": _EXPORTER_NAMES,
    "addresses": _ADDRESSES,
    "otlp": tuple(name for name in _OTLP if name not in _ADDRESSES),
    "rest": tuple(name for name in EVERY_VARIABLE if name not in (*_EXPORTER_NAMES, *_OTLP)),
}
