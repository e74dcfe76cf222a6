"""An SDK that a file configures (`OTEL_CONFIG_FILE`): all signals, its own sampler, two exporters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broken_collectors import broken_collector, complaints, lost
from tests.support.otlp_sink import OtlpSink, otlp_sink
from tests.support.raw_requests import request_id, send
from tests.support.servers import Line, Server, eventually, gunicorn

pytest.importorskip(
    "opentelemetry.configuration", reason="pip install opentelemetry-sdk[file-configuration]"
)

ALWAYS_ON = "parent_based: {root: {always_on: }}"
NEVER = "trace_id_ratio_based: {ratio: 0.0}"

CONFIGURATION = """\
file_format: "1.0"
resource:
  attributes:
    - {{name: service.name, value: declared}}
propagator:
  composite:
    - tracecontext:
tracer_provider:
  processors:
    - batch: {{schedule_delay: 20, exporter: {{otlp_http: {{endpoint: {first}/v1/traces}}}}}}
    - simple: {{exporter: {{otlp_http: {{endpoint: {second}/v1/traces}}}}}}
  sampler: {{{sampler}}}
meter_provider:
  readers:
    - periodic: {{interval: 100, exporter: {{otlp_http: {{endpoint: {first}/v1/metrics}}}}}}
logger_provider:
  processors:
    - batch: {{schedule_delay: 20, exporter: {{otlp_http: {{endpoint: {first}/v1/logs}}}}}}
"""


class Site:
    """A server and the two receivers that its file names."""

    def __init__(self, server: Server, first: OtlpSink, second: OtlpSink) -> None:
        self.server = server
        self.first = first
        self.second = second

    def events(self, line: Line) -> list[str]:
        """Return the names of the log events of a line's trace."""
        return [
            log.event_name
            for log in list(self.first.logs)
            if log.trace_id == line["trace_id"] and log.event_name
        ]


@contextlib.contextmanager
def declared(
    app: str, directory: Path, *arguments: str, sampler: str = ALWAYS_ON, **environment: str
) -> Iterator[Site]:
    """Start a site whose SDK a file configures."""
    configuration = directory / "otel.yaml"
    with otlp_sink() as first, otlp_sink() as second:
        configuration.write_text(
            CONFIGURATION.format(first=first.endpoint, second=second.endpoint, sampler=sampler)
        )
        settings = {
            "SITE_DIRECTORY": str(directory),
            "SITE_LOG": str(directory / "site.log"),
            "OTEL_CONFIG_FILE": str(configuration),
            # The file says it all; what is said here is not heeded.
            "OTEL_TRACES_SAMPLER": "always_off",
            **environment,
        }
        with gunicorn(app, directory, *arguments, **settings) as server:
            yield Site(server, first, second)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose every request is exported."""
    with declared("every_kind", tmp_path_factory.mktemp("declared")) as site:
        yield site


def test_each_exporter_gets_whole_trace(site: Site) -> None:
    """One root with the line's facts and the queries below it, at both ends."""
    _, line = site.server.ask("/queries/")
    for sink in (site.first, site.second):
        root = sink.root_of(line)
        assert (root.name, root.span_id) == ("GET queries/", line["span_id"])
        assert root.attributes["canonical.db.queries"] == 5
        assert root.attributes["canonical.sample_rate"] == 1.0
        assert len(sink.children_of(root)) >= 5
        assert root.resource["service.name"] == "declared"
    assert "ignoring" not in site.server.stderr.read_text()


def test_log_event_is_exported(site: Site) -> None:
    """The wide event, in its trace."""
    _, line = site.server.ask("/raises/")
    eventually(lambda: site.events(line) == ["canonical.request"], site.server.report)
    [event] = [
        log
        for log in site.first.logs
        if log.trace_id == line["trace_id"] and log.event_name == "canonical.request"
    ]
    assert (event.span_id, event.severity) == (line["span_id"], "ERROR")
    assert event.resource["service.name"] == "declared"


def test_metrics_are_exported(site: Site) -> None:
    """Those of the Django instrumentation, with the route."""
    site.server.ask("/item/declared/")
    eventually(
        lambda: [
            metric
            for metric in list(site.first.metrics)
            if metric.name == "http.server.request.duration"
            and metric.attributes.get("http.route") == "item/<slug:slug>/"
        ],
        site.server.report,
    )


def test_route_survives_when_app_sets_more_keys_than_span_holds(site: Site) -> None:
    """The file's limit is OpenTelemetry's own, 128; the app's keys give way first."""
    _, line = site.server.ask("/many-facts/")
    root = site.first.root_of(line)
    assert root.attributes["http.route"] == "many-facts/"
    assert root.attributes["http.response.status_code"] == 200


def test_app_logs_are_exported(tmp_path: Path) -> None:
    """With the ids of their request."""
    with declared("logs", tmp_path) as site:
        _, line = site.server.ask("/says/?name=declared")
        [record] = eventually(
            lambda: [log for log in list(site.first.logs) if log.body == "declared shop"],
            site.server.report,
        )
        assert record.trace_id == line["trace_id"]
        assert record.attributes["http.request.id"] == line["req_id"]


def test_sampler_of_file_and_rule_are_obeyed(tmp_path: Path) -> None:
    """What the file's sampler drops stays at home, but for what the rule asks for."""
    with declared(
        "rule", tmp_path, sampler=NEVER, OTEL_PYTHON_CANONICAL_ALWAYS_EXPORT="errors"
    ) as site:
        _, dropped = site.server.ask("/ok/")
        _, failed = site.server.ask("/fails/")
        assert (dropped["sampled"], dropped["db_queries"]) == ("false", "1")
        assert failed["sampled"] == "true"
        for sink in (site.first, site.second):
            root = sink.root_of(failed)
            assert [child.name for child in sink.children_of(root)] == ["work"]
            assert {span.trace_id for span in sink.spans} == {failed["trace_id"]}


def test_root_of_dead_request_has_ids_of_line(tmp_path: Path) -> None:
    """The reporter reads the same file."""
    with declared("stuck", tmp_path) as site:
        send(site.server, "/exits-hard/")
        line = site.server.line_of(request_id("/exits-hard/"))
        root = site.first.root_of(line)
        assert (root.span_id, root.attributes["error.type"]) == (line["span_id"], "exit:7")
        assert root.attributes["canonical.sample_rate"] == 1.0
        eventually(lambda: site.events(line) == ["canonical.lost"], site.server.report)


def test_loss_is_told_when_collector_is_down(tmp_path: Path) -> None:
    """The file's exporters are watched like those of the environment."""
    configuration = tmp_path / "otel.yaml"
    with broken_collector(None) as endpoint:
        exporter = f"{{otlp_http: {{endpoint: {endpoint}/v1/traces, timeout: 1000}}}}"
        configuration.write_text(
            f"""\
file_format: "1.0"
tracer_provider:
  processors:
    - batch: {{schedule_delay: 20, exporter: {exporter}}}
"""
        )
        with gunicorn(
            "every_kind",
            tmp_path,
            SITE_DIRECTORY=str(tmp_path),
            OTEL_CONFIG_FILE=str(configuration),
        ) as server:
            _, line = server.ask("/ok/")
            assert line["sampled"] == "true"
            eventually(lambda: complaints(server), server.report)
            assert lost(server) == {"spans": 1}
