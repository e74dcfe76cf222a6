"""Queries on a real PostgreSQL, through psycopg 3 and with its instrumentation installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.environments import WITH_DRIVERS
from tests.support.otlp_sink import OtlpSink, SunkSpan, otlp_sink
from tests.support.postgres import postgres
from tests.support.servers import Line, Server, gunicorn
from tests.support.traced_site import traced_site

pytest.importorskip("psycopg", reason="pip install 'psycopg[binary]'")


@dataclass
class Site:
    """A server whose database is PostgreSQL, and what it may export to."""

    server: Server
    sink: OtlpSink
    is_exported: bool

    def queries(self, line: Line) -> list[SunkSpan]:
        """Return the spans below the root, without those of what a new connection asks for."""
        return [
            span
            for span in self.sink.children_of(self.sink.root_of(line))
            if "set_config" not in span.attributes["db.query.text"]
        ]

    def counts(self, path: str) -> Line:
        """Send a request and return its line's counts of queries."""
        _, line = self.server.ask(path)
        assert line["resp_status"] == "200"
        return {
            key: line[key] for key in ("db_queries", "db_dup_queries", "db_errors") if key in line
        }


@pytest.fixture(scope="module")
def socket_directory() -> Iterator[str]:
    """A PostgreSQL for the tests of this file."""
    with postgres() as directory:
        yield directory


#: How a site keeps its connections: anew for each request, or over requests and looked at first.
CONNECTIONS = {"reconnecting": {}, "kept": {"SITE_CONNECTIONS": "kept"}}


@pytest.fixture(
    scope="module",
    params=[
        ("reconnecting", "no exporter"),
        ("reconnecting", "exported"),
        ("kept", "no exporter"),
        ("kept", "unsampled"),
    ],
    ids=" ".join,
)
def site(
    request: pytest.FixtureRequest,
    socket_directory: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """A site on PostgreSQL, its tables made."""
    connections, exported = request.param
    directory = tmp_path_factory.mktemp("postgres")
    settings = {
        "SITE_DIRECTORY": str(directory),
        "SITE_POSTGRES": socket_directory,
        **WITH_DRIVERS,
        **CONNECTIONS[connections],
    }
    with otlp_sink() as sink:
        if exported != "no exporter":
            settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink.endpoint
            settings["OTEL_METRICS_EXPORTER"] = "none"
            settings["OTEL_BSP_SCHEDULE_DELAY"] = "20"
        if exported == "unsampled":
            settings["OTEL_TRACES_SAMPLER"] = "always_off"
        with gunicorn("every_kind", directory, **settings) as server:
            assert server.get("/migrates/").status == 200
            yield Site(server, sink, exported == "exported")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/queries/", {"db_queries": "5", "db_dup_queries": "2"}),
        ("/two-databases/", {"db_queries": "2", "db_dup_queries": "2"}),
        ("/failing-query/", {"db_queries": "1", "db_dup_queries": "0", "db_errors": "1"}),
        ("/async-counts/", {"db_queries": "2", "db_dup_queries": "0"}),
        ("/stream/", {"db_queries": "3", "db_dup_queries": "3"}),
        ("/executes-many/", {"db_queries": "2", "db_dup_queries": "0"}),
        ("/iterates/", {"db_queries": "1", "db_dup_queries": "0"}),
        ("/atomically/", {"db_queries": "2", "db_dup_queries": "0"}),
        ("/composed-sql/", {"db_queries": "2", "db_dup_queries": "2"}),
        ("/ok/", {}),
    ],
)
def test_queries_are_counted_exactly(site: Site, path: str, expected: Line) -> None:
    """Each query once, exported or not; what a connection asks for itself isn't one."""
    assert site.counts(path) == expected
    assert site.counts(path) == expected  # on a connection that is kept, or on the next one


def test_query_of_server_side_cursor_is_counted_and_spanned_once(site: Site) -> None:
    """`.iterator()` reads in portions; it is one query, of which the driver itself makes no span."""
    answer, line = site.server.ask("/iterates/")
    assert json.loads(answer.body)["rows"] > 2
    assert line["db_queries"] == "1"
    assert 0 < float(line["db_time"]) <= float(line["resp_time"])
    if not site.is_exported:
        return
    [span] = site.queries(line)
    assert (span.name, span.kind, span.status) == ("SELECT", "CLIENT", "UNSET")
    assert span.attributes["db.query.text"].startswith('SELECT "django_content_type"')
    assert span.attributes["db.system.name"] == "postgresql"
    _, ordinary = site.server.ask("/queries/")
    twin = site.queries(ordinary)[0]
    assert (span.scope, span.attributes.keys()) == (twin.scope, twin.attributes.keys())
    assert (span.ended_ns - span.started_ns) / 1e9 == pytest.approx(
        float(line["db_time"]), abs=0.01
    )


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
@pytest.mark.parametrize("path", ["/sql-as-sent/", "/sql-as-sent/?stream=1"])
def test_sql_names_its_request_when_asked_for(
    path: str, sampler: str, socket_directory: str, tmp_path: Path
) -> None:
    """The database sees route and trace; line and spans have the text without the comment."""
    with traced_site(
        tmp_path,
        SITE_POSTGRES=socket_directory,
        OTEL_TRACES_SAMPLER=sampler,
        **WITH_DRIVERS,
        OTEL_PYTHON_CANONICAL_SQL_COMMENTER="true",
    ) as (server, sink):
        answer, line = server.ask(path)
        sent = answer.body.decode().splitlines()
        assert len(sent) == 2
        for text in sent:
            query, _, comment = text.partition(" /*")
            assert query.startswith("SELECT query FROM pg_stat_activity")
            assert "route='sql-as-sent/'" in comment
            assert f"traceparent='00-{line['trace_id']}-" in comment
        assert (line["db_queries"], line["db_dup_queries"]) == ("2", "2")
        if line["sampled"] == "true":
            root = sink.root_of(line)
            texts = [span.attributes["db.query.text"] for span in sink.children_of(root)]
            assert sum("pg_stat_activity" in text for text in texts) == 2
            assert not [text for text in texts if "/*" in text]


def test_spans_of_queries_are_children_when_exported(site: Site) -> None:
    """What the driver's instrumentation traces hangs below the root, and is counted once."""
    _, line = site.server.ask("/queries/")
    assert line["db_queries"] == "5"
    if not site.is_exported:
        assert site.sink.spans == []
        return
    root = site.sink.root_of(line)
    children = site.sink.children_of(root)
    assert {child.kind for child in children} == {"CLIENT"}
    assert root.attributes["canonical.db.queries"] == 5
    texts = [child.attributes.get("db.query.text") for child in children]
    assert texts.count("SELECT ? WHERE %s = ?") == 2


def test_raw_psycopg_is_counted_when_django_is_not_between(site: Site) -> None:
    """A connection of the app's own is counted by its spans."""
    assert site.counts("/raw-psycopg/") == {"db_queries": "1", "db_dup_queries": "0"}
