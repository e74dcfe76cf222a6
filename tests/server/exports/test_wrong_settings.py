"""Wrong `OTEL_*` values: a line for each request, its calls counted, and one sentence for each mistake."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.neighbour import Neighbour
from tests.support.operating import stop_politely
from tests.support.otel_variables import EVERY_VARIABLE, GROUPS, VALUES
from tests.support.otlp_sink import otlp_sink
from tests.support.servers import GUNICORN, Line, Server, gunicorn
from tests.support.soak import IS_SOAK
from tests.support.ways_to_start import with_hooks_file


@contextlib.contextmanager
def site_with(directory: Path, environ: Mapping[str, str]) -> Iterator[Server]:
    """Serve a site through the hooks: there nothing of OpenTelemetry is imported before us."""
    settings = {
        "SITE_DIRECTORY": str(directory),
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_BLRP_SCHEDULE_DELAY": "20",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        **environ,
    }
    hooks = with_hooks_file(directory)
    with gunicorn("every_kind", directory, *hooks, command=GUNICORN, **settings) as server:
        yield server


def assert_lines_are_whole(server: Server, neighbour: Neighbour) -> Line:
    """Send requests that call, query and fail: their lines, and no traceback, whatever is exported."""
    called, calls = server.ask(f"/outgoing/?url={neighbour.url}/")
    queried, queries = server.ask("/queries/")
    failed, error = server.ask("/raises/")
    assert (called.status, queried.status, failed.status) == (200, 200, 500), server.report()
    assert (calls["http_calls"], queries["db_queries"]) == ("2", "5"), server.report()
    assert (error["resp_status"], error["exc_type"]) == ("500", "Error")
    return calls


def complaints(server: Server) -> list[str]:
    """Return the warnings of the server; there must be no traceback. Views log theirs elsewhere."""
    text = server.stderr.read_text()
    assert "Traceback" not in text, text
    return re.findall(r"\[WARNING\] (.*)", text)


def test_bad_excluded_urls_cost_themselves(tmp_path: Path, neighbour: Neighbour) -> None:
    """A wrong expression is named; the right one beside it excludes from spans, not from lines."""
    with otlp_sink() as sink:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_PYTHON_EXCLUDED_URLS": "*/health,^http://[^/]+/ok",
        }
        with site_with(tmp_path, environ) as server:
            assert_lines_are_whole(server, neighbour)
            _, excluded = server.ask("/ok/")
            sink.root_of(server.ask("/facts/?q=1")[1])
            stop_politely(server)
            said = complaints(server)
    assert excluded["sampled"] == "false"
    assert said == [
        "'*/health' in OTEL_PYTHON_EXCLUDED_URLS is not a regular expression (nothing to repeat at "
        "position 0); it is ignored"
    ]


WRONG_EXPORTS = {
    "jaeger": ({"OTEL_TRACES_EXPORTER": "jaeger"}, "metrics, logs"),
    "prometheus": ({"OTEL_METRICS_EXPORTER": "prometheus"}, "traces, logs"),
    "none-and-otlp": ({"OTEL_TRACES_EXPORTER": "none,otlp"}, "traces, metrics, logs"),
    "http-json": ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "traces, metrics, logs"),
    "queue-below-batch": ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, "traces, metrics, logs"),
    "interval": ({"OTEL_METRIC_EXPORT_INTERVAL": "0"}, "traces, metrics, logs"),
    "no-config-file": ({"OTEL_CONFIG_FILE": "/no/such.yaml"}, "traces, metrics, logs"),
    "no-certificate": ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/no.pem"}, "traces, metrics, logs"),
    "meter-provider": ({"OTEL_PYTHON_METER_PROVIDER": "abc"}, "traces, metrics, logs"),
}


@pytest.mark.parametrize("case", WRONG_EXPORTS)
def test_what_can_be_exported_is(case: str, tmp_path: Path, neighbour: Neighbour) -> None:
    """One mistake is one sentence, for all workers; the start line says what is left, and it is."""
    environ, left = WRONG_EXPORTS[case]
    with otlp_sink() as sink:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, **environ}
        with site_with(tmp_path, environ) as server:
            line = assert_lines_are_whole(server, neighbour)
            server.wait_for(re.escape(f"exporting {left} to {sink.endpoint} (http/protobuf)"))
            stop_politely(server)
            [said] = complaints(server)
        if "traces" in left:
            sink.root_of(line)
        assert bool(sink.spans) == ("traces" in left)
        assert bool(sink.logs) == ("logs" in left)
        assert bool(sink.metrics) == ("metrics" in left)
    [(name, _)] = [pair for pair in environ.items() if pair[0] != "OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert name in said


def test_endpoint_without_scheme_is_completed(tmp_path: Path, neighbour: Neighbour) -> None:
    """`localhost:4318` is exported to by HTTP, and that is said."""
    with otlp_sink() as sink:
        address = sink.endpoint.removeprefix("http://")
        with site_with(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": address}) as server:
            sink.root_of(assert_lines_are_whole(server, neighbour))
            stop_politely(server)
            said = complaints(server)
    assert said == [
        f"OTEL_EXPORTER_OTLP_ENDPOINT='{address}' has no scheme; using "
        f"OTEL_EXPORTER_OTLP_ENDPOINT='{sink.endpoint}'"
    ]


def test_broken_config_file_gives_way_to_variables(tmp_path: Path, neighbour: Neighbour) -> None:
    """A file that can't be read as a configuration costs itself, once a worker and reporter."""
    config = tmp_path / "otel.yaml"
    config.write_text("file_format: [not, a, configuration\n")
    with otlp_sink() as sink:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_CONFIG_FILE": str(config),
            "OTEL_METRICS_EXPORTER": "none",
        }
        with site_with(tmp_path, environ) as server:
            sink.root_of(assert_lines_are_whole(server, neighbour))
            stop_politely(server)
            said = complaints(server)
    assert [text.partition(" (")[0] for text in said] == [
        f"otel-canonical: OTEL_CONFIG_FILE='{config}' can't be used"
    ]


def test_instrumentation_that_fails_costs_itself(tmp_path: Path, neighbour: Neighbour) -> None:
    """One that raises while it is loaded is named; those loaded after it count their calls."""
    package = tmp_path / "site"
    (package / "aaa_broken-1.0.dist-info").mkdir(parents=True)
    (package / "aaa_broken-1.0.dist-info" / "METADATA").write_text(
        "Name: aaa-broken\nVersion: 1.0\n"
    )
    (package / "aaa_broken-1.0.dist-info" / "entry_points.txt").write_text(
        "[opentelemetry_instrumentor]\naaa_broken = aaa_broken:Instrumentor\n"
    )
    (package / "aaa_broken.py").write_text(
        "class Instrumentor:\n    def instrument(self, **kwargs):\n        raise ValueError('no')\n"
    )
    with site_with(tmp_path, {"PYTHONPATH": str(package)}) as server:
        assert_lines_are_whole(server, neighbour)
        stop_politely(server)
        said = complaints(server)
    assert said == [
        "otel-canonical: the instrumentation 'aaa_broken' can't be loaded (ValueError: no); what it "
        "would trace is neither traced nor counted"
    ]


CASES = {name: (name,) for name in EVERY_VARIABLE} if IS_SOAK else GROUPS
#: Numbers are among `otlp` and `rest`.
SHORT = (
    *(("exporters", "abc"), ("addresses", "abc"), ("otlp", "abc"), ("otlp", "-1")),
    *(("rest", "abc"), ("rest", "-1"), ("rest", "")),
)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("case", "value"), list(itertools.product(CASES, VALUES)) if IS_SOAK else SHORT
)
def test_lines_are_whole_when_variables_are_wrong(
    case: str, value: str, tmp_path: Path, neighbour: Neighbour
) -> None:
    """Whatever OpenTelemetry's variables hold: lines, counts, and no traceback.

    All variables of a group hold the same nonsense at once; in the long version each of them alone.
    """
    with otlp_sink() as sink:
        exporting = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint}
        with site_with(tmp_path, {**exporting, **dict.fromkeys(CASES[case], value)}) as server:
            assert_lines_are_whole(server, neighbour)
            stop_politely(server)
            said = complaints(server)
        exported = {"traces": sink.spans, "metrics": sink.metrics, "logs": sink.logs}
        left = [kind for kind, found in exported.items() if found]
        print(f"| `{case}={value}` | {', '.join(left) or 'nothing'} | {' / '.join(said) or '-'} |")
        if not value:
            # Empty is absent; without an endpoint nothing is exported.
            assert not [text for text in said if "OTEL_" in text]
            has_endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT" not in CASES[case]
            assert left == (list(exported) if has_endpoint else [])
