"""Servers and receivers that the tests of this directory share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import Server
from tests.support.traced_site import Traced, traced_site


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Every signal exported, as with nothing set but an endpoint."""
    with traced_site(tmp_path_factory.mktemp("traced"), OTEL_METRIC_EXPORT_INTERVAL="50") as served:
        yield served


@pytest.fixture(scope="module")
def traced_otherwise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Traces only, both generations of attribute names, few attributes, threads, compression.

    And every propagator.
    """
    with traced_site(
        tmp_path_factory.mktemp("traced"),
        *("-k", "gthread", "--threads", "2"),
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_SEMCONV_STABILITY_OPT_IN="http/dup,database",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="128",
        OTEL_PROPAGATORS="tracecontext,baggage,b3,xray,jaeger,ottrace",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
    ) as served:
        yield served


@pytest.fixture(scope="module")
def unsampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """An exporter, and a sampler that drops everything."""
    with traced_site(
        tmp_path_factory.mktemp("traced"),
        OTEL_TRACES_SAMPLER="traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.0",
    ) as served:
        yield served


@pytest.fixture(params=["traced", "traced_otherwise"])
def either(request: pytest.FixtureRequest, traced: Traced, traced_otherwise: Traced) -> Traced:
    """Each of the servers that export every span."""
    return traced if request.param == "traced" else traced_otherwise


@pytest.fixture(params=["exported", "unsampled", "no exporter"])
def whatever_is_exported(
    request: pytest.FixtureRequest, traced: Traced, unsampled: Traced, site: Server
) -> Server:
    """A server that exports every span, one that exports none, one that has no exporter."""
    servers = {"exported": traced.server, "unsampled": unsampled.server, "no exporter": site}
    return servers[request.param]
