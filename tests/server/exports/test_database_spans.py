"""Our spans of Django's queries beside those that the drivers' instrumentations make of the same."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.databases import DRIVERS, SOME_DRIVERS, Databases, traced_databases
from tests.support.environments import DRIVER_INSTRUMENTATIONS, without
from tests.support.otlp_sink import OtlpSink, SunkSpan
from tests.support.servers import Line
from tests.support.soak import IS_SOAK
from tests.support.traced_site import Traced

#: What we say beyond upstream: which operation, why it failed, and what a procedure is called.
BETTER = {
    "db.operation.name",
    "error.type",
    "db.response.status_code",
    "db.stored_procedure.name",
}

#: What a driver's instrumentation gets wrong on a unix socket, by driver: it has no address, or a port.
WRONG = {
    "mysqlclient": {"server.address", "net.peer.name"},
    "pymysql": {"server.address", "server.port", "net.peer.name", "net.peer.port"},
}

#: Statements of connections that set themselves up, and transaction control: no queries of the app.
SET_UP = re.compile(
    r"(?i)\s*(SET |SELECT set_config|BEGIN|SAVEPOINT|RELEASE|ROLLBACK|SELECT VERSION)"
)


#: What a site that says nothing has opted into.
DEFAULT = "http,database"

#: Which names of attributes a site has opted into; those of before on one driver, on all in `make soak`.
OPTED_IN = [
    (driver, conventions)
    for driver in SOME_DRIVERS
    for conventions in (DEFAULT, "", "http/dup,database/dup")
    if driver != "psycopg-pool" and (IS_SOAK or conventions == DEFAULT or driver == "sqlite3")
]


def queries(sink: OtlpSink, line: Line) -> list[SunkSpan]:
    """Return the spans of a request's queries in their order, without those of no app's statement."""
    root = sink.root_of(line)
    spans = [span for span in sink.children_of(root) if span.kind == "CLIENT"]
    spans.sort(key=lambda span: span.started_ns)
    return [span for span in spans if not SET_UP.match(text_of(span))]


def text_of(span: SunkSpan) -> str:
    """Return the statement of a span."""
    return str(span.attributes.get("db.query.text", span.attributes.get("db.statement")))


#: Returns the site on a driver's database, with no setting but that it exports.
Sites = Callable[[str], Traced]


@pytest.fixture(scope="module")
def sites(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Start a driver's site when a test first asks for it, and stop all in the end."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def site(driver: str) -> Traced:
            directory = tmp_path_factory.mktemp(driver)
            return stack.enter_context(traced_databases(directory, databases.settings(driver)))

        yield site


def asked(site: Traced, path: str) -> tuple[Line, list[SunkSpan]]:
    """Return the line of one request and its spans of queries."""
    site.server.ask(path)
    _, line = site.server.ask(path)
    return line, queries(site.sink, line)


def asked_of(
    directory: Path, settings: dict[str, str], path: str, **environment: str
) -> tuple[Line, list[SunkSpan]]:
    """Return the same of a site of its own."""
    directory.mkdir()
    with traced_databases(directory, settings, **environment) as site:
        return asked(site, path)


@pytest.mark.soak
@pytest.mark.parametrize(("driver", "conventions"), OPTED_IN)
def test_spans_say_what_the_drivers_instrumentation_says(
    driver: str, conventions: str, sites: Sites, databases: Databases, tmp_path: Path
) -> None:
    """Twenty statements, one of ours for each of theirs: name, kind, text, database, server, errors."""
    settings = databases.settings(driver)
    opted = {"OTEL_SEMCONV_STABILITY_OPT_IN": conventions} if conventions else OLD
    if conventions == DEFAULT:
        line, ours = asked(sites(driver), "/twenty/")
    else:
        line, ours = asked_of(tmp_path / "ours", settings, "/twenty/", **opted)
    off = {"OTEL_PYTHON_CANONICAL_DB_SPANS": "false"}
    same, theirs = asked_of(tmp_path / "theirs", settings, "/twenty/", **opted, **off)
    assert line["db_queries"] == same["db_queries"] == str(len(ours)) == "20"
    if driver == "psycopg":
        # Its instrumentation doesn't see server-side cursors.
        ours = [
            span for span in ours if "ORDER BY" not in text_of(span) or "twenty" in text_of(span)
        ]
    assert [text_of(span) for span in ours] == [text_of(span) for span in theirs]
    wrong = WRONG.get(driver, set())
    for mine, upstream in zip(ours, theirs, strict=True):
        assert (mine.name, mine.kind, mine.status) == (
            *(upstream.name, upstream.kind, upstream.status),
        )
        assert mine.status_message == upstream.status_message
        shared = {
            name: value for name, value in mine.attributes.items() if name not in BETTER | wrong
        }
        assert shared == {
            name: value for name, value in upstream.attributes.items() if name not in wrong
        }
        assert [event.name for event in mine.events] == [event.name for event in upstream.events]
        for event, other in zip(mine.events, upstream.events, strict=True):
            for name in ("exception.type", "exception.message"):
                assert event.attributes[name] == other.attributes[name]
        if mine.status == "ERROR":
            assert mine.attributes["error.type"] == mine.events[0].attributes["exception.type"]
            assert mine.attributes["db.response.status_code"]
        if "database" in conventions:
            assert mine.attributes["db.operation.name"] == mine.name


#: No opt-in is not an empty one, which counts as unset: any other signal's keeps both former ones.
OLD = {"OTEL_SEMCONV_STABILITY_OPT_IN": "rpc"}


@pytest.mark.parametrize("driver", ["mysqlclient", "pymysql"])
def test_server_of_mysql_is_named(
    driver: str, sites: Sites, databases: Databases, tmp_path: Path
) -> None:
    """By its socket, without a port that isn't used; or by host and port."""
    _, spans = asked(sites(driver), "/three/")
    path = databases.settings(driver)["SITE_MYSQL_HOST"]
    assert {span.attributes["server.address"] for span in spans} == {path}
    assert not [span for span in spans if "server.port" in span.attributes]
    over_tcp = databases.mysql_over_tcp()
    _, spans = asked_of(tmp_path / "tcp", {"SITE_DRIVER": driver, **over_tcp}, "/three/")
    for span in spans:
        assert span.attributes["server.address"] == "127.0.0.1"
        assert span.attributes["server.port"] == int(over_tcp["SITE_MYSQL_PORT"])
        assert span.attributes["db.namespace"] == "site"


@pytest.mark.parametrize("driver", DRIVERS)
def test_query_has_one_span(driver: str, sites: Sites) -> None:
    """In views, streams, threads, async views and a pool's threads; set-up has none.

    What the app opens by itself is none of ours: it keeps the driver's span.
    """
    server, sink = sites(driver)
    for path in ("/three/", "/streams/", "/threads/", "/n1_async/", "/atomic/", "/on_commit/"):
        _, line = server.ask(path)
        root = sink.root_of(line)
        spans = [span for span in sink.children_of(root) if span.kind == "CLIENT"]
        assert len(spans) == int(line["db_queries"]), (path, [text_of(span) for span in spans])
        assert {span.scope for span in spans} == {"otel_canonical"}
        total = sum(span.ended_ns - span.started_ns for span in spans) / 1e9
        assert total == pytest.approx(float(line["db_time"]), abs=0.02)
    # Nothing that belongs to no request: a pool's own queries, a connection's set-up.
    assert not [span for span in sink.spans if not span.parent_id and span.kind == "CLIENT"]
    _, line = server.ask("/own_connection/")
    scopes = {text_of(span): span.scope for span in queries(sink, line)}
    name = driver.removesuffix("-pool")
    assert scopes == {
        "SELECT ?": "otel_canonical",
        "SELECT ? + ?": f"opentelemetry.instrumentation.{name}",
    }
    assert line["db_queries"] == "2"


@pytest.mark.parametrize("driver", ["psycopg2", "mysqlclient", "pymysql"])
def test_procedure_has_a_span(driver: str, sites: Sites) -> None:
    """Named as upstream names it."""
    _, spans = asked(sites(driver), "/procedure/")
    name = "version" if driver == "psycopg2" else "answers"
    assert (spans[-1].name, spans[-1].attributes["db.stored_procedure.name"]) == (name, name)
    assert text_of(spans[-1]) == name


def test_spans_need_no_instrumentation(databases: Databases, tmp_path: Path) -> None:
    """None of a driver's is loaded; the spans are the same."""
    settings = databases.settings("psycopg")
    off = without(f"{DRIVER_INSTRUMENTATIONS},sqlite3")
    line, spans = asked_of(tmp_path / "none", settings, "/three/", **off)
    assert len(spans) == int(line["db_queries"]) == 3


@pytest.mark.parametrize("driver", ["sqlite3", "psycopg"])
def test_switched_off_spans_are_neither_made_nor_counted_twice(
    driver: str, databases: Databases, tmp_path: Path
) -> None:
    """With the driver's instrumentation its spans, without it none."""
    settings = databases.settings(driver)
    off = {"OTEL_PYTHON_CANONICAL_DB_SPANS": "false"}
    line, spans = asked_of(tmp_path / "theirs", settings, "/three/", **off)
    assert (line["db_queries"], line["db_dup_queries"], len(spans)) == ("3", "0", 3)
    assert {span.scope for span in spans} == {f"opentelemetry.instrumentation.{driver}"}
    line, spans = asked_of(tmp_path / "none", settings, "/three/", **off, **without(driver))
    assert (line["db_queries"], len(spans)) == ("3", 0)


def test_error_of_a_query_is_redacted(sites: Sites) -> None:
    """A driver's message may quote what the app sent."""
    server, sink = sites("psycopg")
    _, line = server.ask("/secret_error/")
    [failed] = [span for span in queries(sink, line) if span.status == "ERROR"]
    assert failed.attributes["db.response.status_code"] == "23505"
    assert "hunter2" not in sink.text()
