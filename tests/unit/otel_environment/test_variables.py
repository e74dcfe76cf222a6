"""Each wrong `OTEL_*` value costs itself and one sentence; right ones stay as they are."""

from __future__ import annotations

import pytest

from otel_canonical import otel_config
from otel_canonical.otel_environment import exports, variables


def mended(**environ: str) -> tuple[dict[str, str], list[str]]:
    """Mend an environment; return it and what was said."""
    said: list[str] = []
    variables.mend(environ, said.append)
    exports.mend(environ, said.append)
    return environ, said


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:pw@collector:4318/x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4318", "OTEL_EXPORTER_OTLP_TIMEOUT": "2.5"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"},
        {"OTEL_TRACES_EXPORTER": "otlp,console", "OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
        {"OTEL_PROPAGATORS": "tracecontext,baggage", "OTEL_PYTHON_ID_GENERATOR": "random"},
        {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "100"},
        {"OTEL_PYTHON_EXCLUDED_URLS": "^/health,(?:a|b){1,2}", "OTEL_RESOURCE_ATTRIBUTES": "a=b"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20abc,x=1=2"},
        {"OTEL_PYTHON_METER_CONFIGURATOR": "", "OTEL_PYTHON_DJANGO_EXCLUDED_URLS": ""},
        {"OTEL_SERVICE_NAME": "abc", "UNRELATED": ""},
    ],
    ids=str,
)
def test_right_values_stay(environ: dict[str, str]) -> None:
    """Nothing is changed, and nothing said."""
    assert mended(**environ) == (environ, [])


@pytest.mark.parametrize("value", ["", "  "])
def test_empty_values_count_as_unset(value: str) -> None:
    """The SDK would log a traceback for most of them."""
    names = (
        *("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_TRACES_EXPORTER"),
        *("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_CONFIG_FILE"),
    )
    assert mended(**dict.fromkeys(names, value)) == ({}, [])


@pytest.mark.parametrize(
    ("name", "value", "left", "sentence"),
    [
        (
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            "unlimited",
            None,
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT='unlimited' is not a number of 0 or more; using the "
            "default, 1000",
        ),
        (
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
            "abc",
            None,
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT='abc' is not a number of 0 or more; using no limit",
        ),
        (
            "OTEL_BSP_SCHEDULE_DELAY",
            "0",
            None,
            "OTEL_BSP_SCHEDULE_DELAY='0' is not a number above 0; using the default, 5000",
        ),
        (
            "OTEL_METRIC_EXPORT_INTERVAL",
            "0",
            None,
            "OTEL_METRIC_EXPORT_INTERVAL='0' is not a number of milliseconds above 0; using the "
            "default, 60000",
        ),
        (
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "100",
            "100",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=512, the default, is more than "
            "OTEL_BSP_MAX_QUEUE_SIZE=100; using batches of 100",
        ),
        (
            "OTEL_PYTHON_METER_PROVIDER",
            "abc",
            None,
            "OTEL_PYTHON_METER_PROVIDER='abc' is not installed (installed: default_meter_provider, "
            "sdk_meter_provider); using the SDK's",
        ),
        (
            "OTEL_PYTHON_EXCLUDED_URLS",
            "*/health,^/metrics",
            "^/metrics",
            "'*/health' in OTEL_PYTHON_EXCLUDED_URLS is not a regular expression (nothing to repeat "
            "at position 0); it is ignored",
        ),
        (
            "OTEL_PYTHON_DJANGO_EXCLUDED_URLS",
            "api/(v1",
            "",
            "'api/(v1' in OTEL_PYTHON_DJANGO_EXCLUDED_URLS is not a regular expression (missing ), "
            "unterminated subpattern at position 4); it is ignored",
        ),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "/no/such.pem",
            None,
            "OTEL_EXPORTER_OTLP_CERTIFICATE='/no/such.pem' is not a file that can be read; using none",
        ),
        (
            "OTEL_SDK_DISABLED",
            "yes",
            None,
            "OTEL_SDK_DISABLED='yes' is not true or false; using false",
        ),
        (
            "OTEL_CONFIG_FILE",
            "/no/such.yaml",
            None,
            "OTEL_CONFIG_FILE='/no/such.yaml' is not a file; the other OTEL_* variables are used",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=b%0As3cret,x-key",
            "",
            "OTEL_EXPORTER_OTLP_HEADERS has a part that is not free of control characters; it is "
            "ignored",
        ),
        (
            "OTEL_TRACES_EXPORTER",
            "jaeger",
            "none",
            "OTEL_TRACES_EXPORTER names 'jaeger', an exporter that is not installed; traces are not "
            "exported that way",
        ),
        (
            "OTEL_TRACES_EXPORTER",
            "otlp_,console",
            "console",
            "OTEL_TRACES_EXPORTER names 'otlp_', an exporter that is not installed; traces are not "
            "exported that way",
        ),
        (
            "OTEL_TRACES_EXPORTER",
            "none,otlp",
            "otlp",
            "OTEL_TRACES_EXPORTER='none,otlp' names none beside others; none is ignored",
        ),
        (
            "OTEL_METRICS_EXPORTER",
            "prometheus",
            "none",
            "OTEL_METRICS_EXPORTER names prometheus, which shows one process on one port, not a pool "
            "of workers (export to a Collector, and let Prometheus read from that); metrics are not "
            "exported that way",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "localhost:4318",
            "http://localhost:4318",
            "OTEL_EXPORTER_OTLP_ENDPOINT='localhost:4318' has no scheme; using "
            "OTEL_EXPORTER_OTLP_ENDPOINT='http://localhost:4318'",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "unix:///run/s3cret@collector?x",
            "unix:///run/s3cret@collector?x",
            "OTEL_EXPORTER_OTLP_ENDPOINT='unix:///run/s3cret@collector' is not a URL such as "
            "http://localhost:4318; traces, metrics and logs are not exported that way",
        ),
    ],
)
def test_wrong_value_is_said_and_replaced(
    name: str, value: str, left: str | None, sentence: str
) -> None:
    """Which variable, what it holds, what it should be, what is used instead; as the SDK takes it."""
    environ, said = mended(**{name: value})
    assert environ.get(name) == left
    assert said[0] == sentence


@pytest.mark.parametrize("protocol", ["http/json", "abc"])
def test_unknown_protocol_gives_way_to_the_default(protocol: str) -> None:
    """Every OTLP receiver over HTTP takes protobuf; it is said once for all signals."""
    environ, said = mended(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318", OTEL_EXPORTER_OTLP_PROTOCOL=protocol
    )
    assert environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
    assert said == [
        f"OTEL_EXPORTER_OTLP_PROTOCOL='{protocol}' is not one of http/protobuf, grpc; using "
        "http/protobuf"
    ]


def test_exporter_without_its_package_costs_its_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC for two signals, its package is missing: one sentence, and the third is exported."""
    is_installed = exports.is_installed
    monkeypatch.setattr(
        exports,
        "is_installed",
        lambda group, name: "grpc" not in name and is_installed(group, name),
    )
    environ, said = mended(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_LOGS_PROTOCOL="http/protobuf",
    )
    assert said == [
        "OTLP over grpc needs the package opentelemetry-exporter-otlp-proto-grpc, which is not "
        "installed; traces and metrics are not exported that way"
    ]
    assert environ["OTEL_TRACES_EXPORTER"] == environ["OTEL_METRICS_EXPORTER"] == "none"
    assert "OTEL_LOGS_EXPORTER" not in environ


def test_sentence_is_one_line_and_short_when_value_is_hostile() -> None:
    """What a value holds cannot forge a line of the log."""
    _, [said] = mended(OTEL_BSP_MAX_QUEUE_SIZE="1\n[1] [INFO] forged\x1b[2J" + "x" * 10_000)
    assert said.isprintable()
    assert len(said) < 300


@pytest.mark.parametrize(
    ("environ", "described"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://u:pw@c:4318/x?api_key=s3cret"},
            "exporting traces, metrics, logs to https://c:4318/x (http/protobuf)",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "console",
            },
            "exporting traces to http://c:4318 (http/protobuf) and logs to console",
        ),
        (
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "exporting traces to http://localhost:4317 (grpc)",
        ),
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, otel_config.HOW_TO_EXPORT),
        ({"OTEL_CONFIG_FILE": __file__}, f"exporting what {__file__} says"),
    ],
)
def test_what_is_exported_is_described(
    environ: dict[str, str], described: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start line says what really leaves, and to where, without secrets."""
    after, _ = mended(**environ)
    monkeypatch.setattr(otel_config.os, "environ", after)
    assert otel_config.describe() == described
