"""What counts as a query, on each of Django's drivers: the app's own statements and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import DRIVERS, SOME_DRIVERS, Databases, database_site
from tests.support.servers import Line, Server, gunicorn

#: Counted alike by every driver, whether a connection is new or kept.
COUNTS = {
    "/three/": {"db_queries": "3", "db_dup_queries": "0", "db_rows": "4"},
    "/streams/": {"db_queries": "3", "db_dup_queries": "3", "db_rows": "3"},
    "/threads/": {"db_queries": "4", "db_dup_queries": "4", "db_rows": "4"},
    "/atomic/": {"db_queries": "3", "db_dup_queries": "0", "db_rows": "3"},
    "/on_commit/": {"db_queries": "2", "db_dup_queries": "0", "db_rows": "2"},
}


def counts(server: Server, path: str) -> Line:
    """Send a request and return the counts on its line."""
    answer, line = server.ask(path)
    assert answer.status == 200, server.report()
    return {key: line[key] for key in ("db_queries", "db_dup_queries", "db_rows") if key in line}


@pytest.fixture(
    scope="module",
    params=[
        (driver, connections)
        for driver in DRIVERS
        for connections in ("new", "kept")
        if (driver, connections) != ("psycopg-pool", "kept")
    ],
    ids=" ".join,
)
def site(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The site on one driver; receivers of `connection_created` ask for more."""
    driver, connections = request.param
    directory = tmp_path_factory.mktemp("counts")
    settings = databases.settings(driver)
    with database_site(
        directory, settings, SITE_CONNECTIONS=connections, SITE_RECEIVERS="1"
    ) as server:
        yield server


@pytest.mark.parametrize("path", list(COUNTS))
def test_only_statements_of_the_app_are_counted(site: Server, path: str) -> None:
    """Not a connection's set-up nor its receivers', its health checks, BEGIN, COMMIT, savepoints."""
    for _ in range(3):
        assert counts(site, path) == COUNTS[path]


def test_connecting_has_a_time_of_its_own(site: Server, request: pytest.FixtureRequest) -> None:
    """A new connection is opened for each request, or one is kept and looked at."""
    is_kept = "kept" in request.node.callspec.id
    site.ask("/three/")
    _, line = site.ask("/three/")
    assert line["db_connects"] == ("0" if is_kept else "1")
    assert 0 <= float(line["db_connect_time"]) < float(line["resp_time"])
    if not is_kept:
        assert float(line["db_connect_time"]) > 0
    assert "db_txn_time" not in line


def test_transaction_control_has_a_time_of_its_own(site: Server) -> None:
    """It is none of a query's."""
    _, line = site.ask("/atomic/")
    assert 0 < float(line["db_txn_time"]) < float(line["resp_time"])
    _, line = site.ask("/ok/")
    assert not [key for key in line if key.startswith("db_")]


def test_rows_are_counted_however_they_are_fetched(site: Server) -> None:
    """One by one, some, all, iterated, in portions, raw."""
    answer, line = site.ask("/fetches/")
    assert int(line["db_rows"]) == json.loads(answer.body)["rows"] > 24
    assert 0 < float(line["db_fetch_time"]) < float(line["resp_time"])
    assert line["db_queries"] == "8"


def test_query_of_own_connection_is_counted_once(site: Server) -> None:
    """The driver's instrumentation keeps the connections that the app opens by itself."""
    assert counts(site, "/own_connection/")["db_queries"] == "2"


@pytest.mark.soak
@pytest.mark.parametrize("driver", SOME_DRIVERS)
def test_requests_in_transactions_count_the_same(
    driver: str, databases: Databases, tmp_path: Path
) -> None:
    """ATOMIC_REQUESTS adds a time, not a query."""
    with database_site(tmp_path, databases.settings(driver), SITE_ATOMIC="1") as server:
        assert counts(server, "/three/") == COUNTS["/three/"]
        _, line = server.ask("/three/")
        assert float(line["db_txn_time"]) > 0


@pytest.mark.soak
@pytest.mark.parametrize("driver", SOME_DRIVERS)
def test_debugging_counts_the_same(driver: str, databases: Databases, tmp_path: Path) -> None:
    """Under DEBUG Django logs queries; on SQLite it asks the database how to show them."""
    with database_site(tmp_path, databases.settings(driver), SITE_DEBUG="1") as server:
        for path, expected in COUNTS.items():
            assert counts(server, path) == expected


@pytest.mark.parametrize("driver", ["sqlite3", "psycopg", "psycopg-pool", "mysqlclient"])
def test_threads_count_exactly(driver: str, databases: Databases, tmp_path: Path) -> None:
    """With OpenTelemetry's threading instrumentation a pool's threads carry the first request."""
    settings = databases.settings(driver)
    with database_site(
        tmp_path, settings, *("--worker-class", "gthread", "--threads", "4")
    ) as server:
        for _ in range(4):
            for path, expected in COUNTS.items():
                assert counts(server, path) == expected


@pytest.mark.parametrize("driver", ["psycopg2", "mysqlclient", "pymysql"])
def test_procedure_is_a_query(driver: str, databases: Databases, tmp_path: Path) -> None:
    """`callproc` passes none of Django's `execute_wrappers`."""
    with database_site(tmp_path, databases.settings(driver)) as server:
        expected = {"psycopg2": "1"}.get(driver, "3")
        assert counts(server, "/procedure/")["db_queries"] == expected


def test_times_are_those_of_a_probe_around_the_driver(databases: Databases, tmp_path: Path) -> None:
    """Over 100 mixed requests the four times add up to what psycopg's own methods took."""
    paths = ("/three/", "/atomic/", "/fetches/", "/n1_view/", "/n1_two/", "/n1_prefetch/")
    settings = {"SITE_DIRECTORY": str(tmp_path), **databases.settings("psycopg")}
    keys = ("db_time", "db_fetch_time", "db_connect_time", "db_txn_time")
    ours = probed = 0.0
    with gunicorn("probed", tmp_path, **settings) as server:
        server.get("/migrates/")
        for number in range(102):
            _, line = server.ask(paths[number % len(paths)])
            ours += sum(float(line.get(key, 0)) for key in keys)
            probed += float(line["app_probe"])
    assert ours == pytest.approx(probed, rel=0.05), f"{ours:.4f} s, {probed:.4f} s by the probe"
