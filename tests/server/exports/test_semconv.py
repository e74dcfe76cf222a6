"""Old and stable names of attributes and metrics, as `OTEL_SEMCONV_STABILITY_OPT_IN` chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.otlp_sink import SunkSpan, otlp_sink
from tests.support.servers import DEMO, eventually, gunicorn
from tests.support.soak import some_of
from tests.support.traced_site import traced_site

#: What the instrumentations call a thing: formerly, and now.
HTTP = {
    "http.method": "http.request.method",
    "http.status_code": "http.response.status_code",
    "http.scheme": "url.scheme",
    "http.flavor": "network.protocol.version",
    "http.user_agent": "user_agent.original",
}
DATABASE = {"db.system": "db.system.name", "db.statement": "db.query.text"}


#: By what a user opts into, the names of HTTP's and of databases' attributes.
NAMES: dict[str | None, tuple[set[str], set[str]]] = {
    None: ({"stable"}, {"stable"}),
    "http/dup,database/dup": ({"old", "stable"}, {"old", "stable"}),
    "http/dup": ({"old", "stable"}, {"old"}),
    "database": ({"old"}, {"stable"}),
    "none": ({"old"}, {"old"}),
}


@pytest.mark.soak
@pytest.mark.parametrize("opt_in", some_of(NAMES, None, "http/dup", "database"))
def test_names_are_those_that_user_opted_into(opt_in: str | None, tmp_path: Path) -> None:
    """Stable ones by default; a choice of the user's is respected, and counts stay what they are.

    The event's own facts are stable names whatever is chosen, so a root always has those.
    """
    http, database = NAMES[opt_in]
    choice = {} if opt_in is None else {"OTEL_SEMCONV_STABILITY_OPT_IN": opt_in}
    with traced_site(tmp_path, OTEL_METRIC_EXPORT_INTERVAL="100", **choice) as (server, sink):
        _, line = server.ask("/queries/?token=hunter2", User_Agent="probe/1.0")
        assert (line["db_queries"], line["db_dup_queries"]) == ("5", "2")
        root = sink.root_of(line)
        for former, stable in HTTP.items():
            assert (former in root.attributes) == ("old" in http), former
            assert stable in root.attributes
            if "old" in http:
                assert str(root.attributes[former]) == str(root.attributes[stable])
        assert root.attributes["http.route"] == "queries/"
        query = sink.children_of(root)[0]
        for former, stable in DATABASE.items():
            assert (former in query.attributes) == ("old" in database), former
            assert (stable in query.attributes) == ("stable" in database), stable
        _, line = server.ask("/raw-sqlite/")
        assert line["db_queries"] == "1"
        _, line = server.ask("/many-facts/")
        crowded = sink.root_of(line)
        assert (crowded.attributes["http.route"], crowded.dropped_attributes) == ("many-facts/", 0)
        names = {"http.server.duration": "old", "http.server.request.duration": "stable"}
        eventually(
            lambda: {names[m.name] for m in list(sink.metrics) if m.name in names} == http,
            lambda: str({metric.name for metric in list(sink.metrics)}),
        )
        assert "hunter2" not in sink.text()


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
def test_drivers_record_metrics_of_the_apps_own_connections(sampler: str, tmp_path: Path) -> None:
    """Django's queries are on the lines; those of other connections are recorded, exported or not."""
    with traced_site(tmp_path, OTEL_METRIC_EXPORT_INTERVAL="100", OTEL_TRACES_SAMPLER=sampler) as (
        server,
        sink,
    ):
        server.ask("/queries/")
        server.ask("/raw-sqlite/")

        def recorded() -> set[int]:
            name = "db.client.operation.duration"
            return {metric.count for metric in list(sink.metrics) if metric.name == name}

        eventually(lambda: recorded() == {1}, server.report)


#: What makes a server one of OpenTelemetry's own distro, with the stable names that are our default.
PLAIN = {
    "OTEL_PYTHON_CANONICAL_ENABLED": "false",
    "OTEL_PYTHON_DISTRO": "distro",
    "OTEL_PYTHON_CONFIGURATOR": "configurator",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "DJANGO_SETTINGS_MODULE": "demo_shop.settings",
    "PYTHONPATH": str(DEMO),
}


def roots_of_shop(directory: Path, environment: dict[str, str]) -> dict[str, SunkSpan]:
    """Return the root of a request to each of a few of the demo's pages."""
    directory.mkdir()
    found = {}
    with (
        otlp_sink() as sink,
        gunicorn(
            "demo_shop.wsgi",
            directory,
            *("--chdir", str(DEMO)),
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="20",
            DEMO_DATABASE=str(directory / "none.sqlite3"),
            **environment,
        ) as server,
    ):

        def roots() -> list[SunkSpan]:
            return [span for span in list(sink.spans) if span.kind == "SERVER"]

        for number, path in enumerate(("/ok/", "/broken/", "/nowhere/", "/queries/0/"), start=1):
            head = f"GET {path} HTTP/1.1\r\nHost: localhost:8123\r\nUser-Agent: Googlebot/2.1\r\n"
            server.send(f"{head}Connection: close\r\n\r\n".encode())
            eventually(lambda n=number: len(roots()) == n, server.report)
            found[path] = roots()[-1]
    return found


def test_root_has_all_that_upstream_puts_there(tmp_path: Path) -> None:
    """opentelemetry-instrumentation-django is left out by default: nothing of its is missed."""
    pytest.importorskip("opentelemetry.distro")
    plain = roots_of_shop(tmp_path / "plain", PLAIN)
    ours = roots_of_shop(tmp_path / "ours", {})
    for path, root in plain.items():
        mine = ours[path]
        # Whole `Host` headers, the listener's port, a status for a type, and what is to opt into.
        other = {"server.address", "server.port", "error.type", "client.port"}
        wanted = root.attributes.keys() - other
        for name in wanted:
            assert mine.attributes.get(name) == root.attributes[name], (path, name)
        assert mine.attributes["server.address"] == "localhost"
        assert mine.attributes["server.port"] == 8123
        assert mine.name == root.name
        assert mine.status == root.status
        assert [event.name for event in mine.events] == [event.name for event in root.events]
        assert all(event.attributes.keys() <= mine.attributes.keys() for event in mine.events)
