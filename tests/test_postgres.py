"""Queries on a real PostgreSQL, through psycopg 3 and with its instrumentation installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.otlp_sink import OtlpSink, otlp_sink
from tests.postgres import postgres
from tests.servers import Line, Server, gunicorn

pytest.importorskip("psycopg", reason="pip install 'psycopg[binary]'")


@dataclass
class Site:
    """A server whose database is PostgreSQL, and what it may export to."""

    server: Server
    sink: OtlpSink
    is_exported: bool

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
        **CONNECTIONS[connections],
    }
    with otlp_sink() as sink:
        if exported != "no exporter":
            settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink.endpoint
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
        ("/atomically/", {"db_queries": "4", "db_dup_queries": "0"}),
        ("/composed-sql/", {"db_queries": "2", "db_dup_queries": "2"}),
        ("/ok/", {}),
    ],
)
def test_queries_are_counted_exactly(site: Site, path: str, expected: Line) -> None:
    """Each query once, exported or not; what a connection asks for itself isn't one."""
    assert site.counts(path) == expected
    assert site.counts(path) == expected  # on a connection that is kept, or on the next one


def test_query_of_server_side_cursor_is_counted_once(site: Site) -> None:
    """`.iterator()` reads in portions; it is one query of which the driver makes no span."""
    answer, line = site.server.ask("/iterates/")
    assert json.loads(answer.body)["rows"] > 2
    assert line["db_queries"] == "1"
    assert 0 < float(line["db_time"]) <= float(line["resp_time"])


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
    assert texts.count("SELECT 1 WHERE %s = 1") == 2


def test_raw_psycopg_is_counted_when_django_is_not_between(site: Site) -> None:
    """A connection of the app's own is counted by its spans."""
    assert site.counts("/raw-psycopg/") == {"db_queries": "1", "db_dup_queries": "0"}
