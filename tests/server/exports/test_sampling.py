"""Trace ids and sampling decisions of requests; every request has its line either way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.otlp_sink import is_server, otlp_sink
from tests.support.servers import gunicorn
from tests.support.traced_site import CALLER, TRACE, Traced, _numbers, traced_site

#: What callers send, by propagator.
FORMS = {
    "b3": {"b3": "{trace}-{caller}-1"},
    "b3multi": {
        "X_B3_TraceId": "{trace}",
        "X_B3_SpanId": "{caller}",
        "X_B3_Sampled": "1",
    },
    "xray": {"X_Amzn_Trace_Id": "Root=1-{head}-{rest};Parent={caller};Sampled=1"},
    "jaeger": {"uber_trace_id": "{trace}:{caller}:0:1"},
    "ottrace": {
        "ot_tracer_traceid": "{trace}",
        "ot_tracer_spanid": "{caller}",
        "ot_tracer_sampled": "true",
    },
}


def test_trace_is_continued_when_caller_sampled(either: Traced) -> None:
    """The caller's trace, the caller's span as parent."""
    trace_id = f"{next(_numbers) + 1:032x}"
    line, root = either.ask("/queries/", traceparent=f"00-{trace_id}-{CALLER}-01")
    assert line["trace_id"] == trace_id
    assert line["sampled"] == "true"
    assert (root.span_id, root.parent_id) == (line["span_id"], CALLER)


@pytest.mark.parametrize("sent", FORMS, ids=FORMS)
def test_trace_is_continued_by_every_propagator(traced_otherwise: Traced, sent: str) -> None:
    """Each of those that OpenTelemetry ships and that `OTEL_PROPAGATORS` names."""
    trace_id = f"{next(_numbers) + 1:032x}"
    headers = {
        name: text.format(trace=trace_id, head=trace_id[:8], rest=trace_id[8:], caller=CALLER)
        for name, text in FORMS[sent].items()
    }
    line, root = traced_otherwise.ask("/ok/", **headers)
    assert line["trace_id"] == trace_id
    assert (root.span_id, root.parent_id) == (line["span_id"], CALLER)


def test_line_without_span_when_caller_did_not_sample(either: Traced) -> None:
    """A caller that says unsampled silences its spans, not its line."""
    _, line = either.server.ask("/queries/", traceparent=f"00-{TRACE}-{CALLER}-00")
    assert (line["trace_id"], line["sampled"]) == (TRACE, "false")
    assert line["db_queries"] == "5"
    assert line["span_id"] != CALLER
    either.ask("/ok/")  # exported after it would have been
    assert not [span for span in either.sink.spans if span.trace_id == TRACE]


@pytest.mark.parametrize("header", ["nonsense", "00-" + "0" * 32 + f"-{CALLER}-01", f"00-{TRACE}"])
def test_new_trace_when_traceparent_is_malformed(traced: Traced, header: str) -> None:
    """A header that names no trace is as good as none."""
    line, root = traced.ask("/ok/", traceparent=header)
    assert line["trace_id"] not in (TRACE, "0" * 32)
    assert root.parent_id == ""


@pytest.mark.parametrize(
    ("sampler", "ratio", "expected"),
    [
        ("always_off", "", {"false"}),
        ("traceidratio", "0.5", {"true", "false"}),
        ("parentbased_traceidratio", "0.5", {"true", "false"}),
    ],
)
def test_every_line_and_only_sampled_spans_when_sampler_drops(
    tmp_path: Path, sampler: str, ratio: str, expected: set[str]
) -> None:
    """All lines; exported are exactly those requests whose line says `sampled=true`."""
    with traced_site(
        tmp_path, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=ratio
    ) as served:
        lines = [served.server.ask("/queries/")[1] for _ in range(40)]
    assert {line["db_queries"] for line in lines} == {"5"}
    assert {line["sampled"] for line in lines} == expected
    assert sorted(span.trace_id for span in served.sink.spans if is_server(span)) == sorted(
        line["trace_id"] for line in lines if line["sampled"] == "true"
    )
    assert {span.trace_id for span in served.sink.spans} == {
        line["trace_id"] for line in lines if line["sampled"] == "true"
    }
    # As Honeycomb reads it: how many requests each root stands for.
    rates = {span.attributes.get("SampleRate") for span in served.sink.spans if is_server(span)}
    assert rates == ({2} if ratio else set())


def test_nothing_is_exported_when_nothing_is_sampled(unsampled: Traced) -> None:
    """Calls that are recorded to be counted don't leave the process."""
    _, line = unsampled.server.ask("/raw-sqlite/")
    assert (line["db_queries"], line["sampled"]) == ("1", "false")
    assert unsampled.sink.spans == []


def test_one_root_when_sdk_is_configured_by_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A declarative configuration, its sampler included, gives the same lines and roots."""
    pytest.importorskip(
        "opentelemetry.configuration", reason="pip install opentelemetry-sdk[file-configuration]"
    )
    directory = tmp_path_factory.mktemp("declared")
    configuration = directory / "otel.yaml"
    with otlp_sink() as sink:
        configuration.write_text(
            f"""\
file_format: "1.0"
propagator:
  composite:
    - tracecontext:
tracer_provider:
  processors:
    - batch:
        schedule_delay: 20
        exporter:
          otlp_http:
            endpoint: {sink.endpoint}/v1/traces
  sampler:
    parent_based:
      root:
        always_on:
"""
        )
        with gunicorn(
            "every_kind",
            directory,
            SITE_DIRECTORY=str(directory),
            OTEL_CONFIG_FILE=str(configuration),
        ) as server:
            served = Traced(server, sink)
            line, root = served.ask("/queries/")
            assert (line["sampled"], line["db_queries"]) == ("true", "5")
            assert (root.name, root.span_id) == ("GET queries/", line["span_id"])
            assert len(sink.children_of(root)) >= 5
            _, dropped = server.ask("/raw-sqlite/", traceparent=f"00-{TRACE}-{CALLER}-00")
            assert (dropped["sampled"], dropped["db_queries"]) == ("false", "1")
