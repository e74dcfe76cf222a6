"""What each `OTEL_*` variable may hold, and what is used instead of a wrong value. Pure, but for files.

Names and defaults are those of OpenTelemetry's specification ("Environment Variable Specification") and of
its Python SDK.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from urllib.parse import unquote

#: Returns the value that the SDK shall read, or raises ValueError with what the value should be.
Check = Callable[[str], str]

_SIGNALS = ("TRACES", "METRICS", "LOGS")


def is_installed(group: str, name: str) -> bool:
    """Return whether a package offers an entry point."""
    return name in _names_in(group)


def forget_installed() -> None:
    """Look for installed packages anew: an upgrade may have brought some."""
    _names_in.cache_clear()


@functools.cache
def _names_in(group: str) -> frozenset[str]:
    """Return the names that installed packages offer; looking for them takes a hundredth of a second."""
    return frozenset(point.name for point in entry_points(group=group))


def _at_least(least: int, what: str) -> Check:
    def check(text: str) -> str:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(what) from None
        if number < least:
            raise ValueError(what)
        return str(number)

    return check


def _more_than_0(what: str) -> Check:
    def check(text: str) -> str:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(what) from None
        if not 0 < number < float("inf"):
            raise ValueError(what)
        return text

    return check


def one_of(*choices: str) -> Check:
    """Return a check that takes these values, however they are capitalised."""

    def check(text: str) -> str:
        for choice in choices:
            if text.lower() == choice.lower():
                return choice
        raise ValueError(f"one of {', '.join(choices)}")

    return check


def _boolean(text: str) -> str:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower()


def _installed(group: str, *others: str) -> Check:
    def check(text: str) -> str:
        if text not in others and not is_installed(group, text):
            known = sorted({*_names_in(group), *others})
            raise ValueError(f"installed (installed: {', '.join(known) or 'none'})")
        return text

    return check


def _readable_file(text: str) -> str:
    if not os.access(text, os.R_OK) or not os.path.isfile(text):
        raise ValueError("a file that can be read")
    return text


def is_pattern(text: str) -> str:
    """Check a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    return text


def _pair(text: str) -> str:
    if not text.partition("=")[0].strip() or "=" not in text:
        raise ValueError("of the form name=value")
    return text


def _header(text: str) -> str:
    if not unquote(_pair(text)).isprintable():
        raise ValueError("free of control characters")
    return text


def _for_signals(name: str) -> Iterable[str]:
    """Return the names of a variable for all signals together and for each of them."""
    return [name.replace("{}", ""), *(name.format(f"{signal}_") for signal in _SIGNALS)]


def _checks() -> Mapping[str, tuple[Check, str]]:
    """Return how each variable is checked, and what is used instead of a wrong value."""
    count = _at_least(0, "a number of 0 or more")
    size = _at_least(1, "a number above 0")
    milliseconds = _more_than_0("a number of milliseconds above 0")
    true = (_boolean, "false")
    found: dict[str, tuple[Check, str]] = {
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": (count, "the default, 1000"),
        **{
            f"OTEL_{kind}_COUNT_LIMIT": (count, "the default, 128")
            for kind in (
                *("ATTRIBUTE", "EVENT_ATTRIBUTE", "LINK_ATTRIBUTE", "LOGRECORD_ATTRIBUTE"),
                *("SPAN_EVENT", "SPAN_LINK"),
            )
        },
        **{
            f"OTEL_{kind}ATTRIBUTE_VALUE_LENGTH_LIMIT": (count, "no limit")
            for kind in ("", "SPAN_", "LOGRECORD_")
        },
        "OTEL_METRIC_EXPORT_INTERVAL": (milliseconds, "the default, 60000"),
        "OTEL_METRIC_EXPORT_TIMEOUT": (milliseconds, "the default, 30000"),
        "OTEL_METRICS_EXEMPLAR_FILTER": (
            one_of("trace_based", "always_on", "always_off"),
            "the default, trace_based",
        ),
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": (
            one_of("CUMULATIVE", "DELTA", "LOWMEMORY"),
            "the default, CUMULATIVE",
        ),
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": (
            one_of("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
            "the default, explicit_bucket_histogram",
        ),
        "OTEL_TRACES_SAMPLER": (
            _installed("opentelemetry_traces_sampler"),
            "the default, parentbased_always_on",
        ),
        "OTEL_PYTHON_ID_GENERATOR": (
            _installed("opentelemetry_id_generator"),
            "the default, random",
        ),
        "OTEL_PYTHON_CONTEXT": (
            _installed("opentelemetry_context"),
            "the default, contextvars_context",
        ),
        "OTEL_PYTHON_DISTRO": (_installed("opentelemetry_distro"), "otel_canonical"),
        "OTEL_PYTHON_CONFIGURATOR": (_installed("opentelemetry_configurator"), "otel_canonical"),
        "OTEL_SDK_DISABLED": true,
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": true,
        "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": true,
    }
    for kind, delay in (("BSP", 5000), ("BLRP", 1000)):
        found[f"OTEL_{kind}_MAX_QUEUE_SIZE"] = (size, "the default, 2048")
        found[f"OTEL_{kind}_MAX_EXPORT_BATCH_SIZE"] = (size, "the default, 512")
        found[f"OTEL_{kind}_SCHEDULE_DELAY"] = (size, f"the default, {delay}")
        found[f"OTEL_{kind}_EXPORT_TIMEOUT"] = (size, "the default, 30000")
    for signal, group in (("TRACER", "tracer"), ("METER", "meter"), ("LOGGER", "logger")):
        found[f"OTEL_PYTHON_{signal}_PROVIDER"] = (
            _installed(f"opentelemetry_{group}_provider"),
            "the SDK's",
        )
        found[f"OTEL_PYTHON_{signal}_CONFIGURATOR"] = (
            _installed(f"_opentelemetry_{group}_configurator"),
            "the default",
        )
    for name in _for_signals("OTEL_EXPORTER_OTLP_{}TIMEOUT"):
        found[name] = (_more_than_0("a number of seconds above 0"), "the default, 10")
    for name in _for_signals("OTEL_EXPORTER_OTLP_{}INSECURE"):
        found[name] = (_boolean, "what the endpoint's scheme says")
    for kind in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        for name in _for_signals(f"OTEL_EXPORTER_OTLP_{{}}{kind}"):
            found[name] = (_readable_file, "none")
    return found


CHECKS = _checks()

#: Lists whose parts are checked one by one.
LISTS: Mapping[str, Check] = {
    "OTEL_PROPAGATORS": _installed("opentelemetry_propagator", "none"),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": _installed("opentelemetry_resource_detector", "*"),
    "OTEL_RESOURCE_ATTRIBUTES": _pair,
    **dict.fromkeys(_for_signals("OTEL_EXPORTER_OTLP_{}HEADERS"), _header),
}
