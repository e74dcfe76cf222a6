"""Which repeated query the line names, and the line of code that asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import Databases, at, database_site, traced_databases
from tests.support.servers import Line, Server, eventually

CLASSES = {
    "sync": (),
    "gthread": ("--worker-class", "gthread", "--threads", "4"),
    "asgi": ("--worker-class", "asgi"),
}


@pytest.fixture(scope="module", params=["sqlite3 sync", "psycopg gthread", "mysqlclient sync"])
def site(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The site on a driver and a worker class."""
    driver, worker_class = request.param.split()
    directory = tmp_path_factory.mktemp("n1")
    with database_site(directory, databases.settings(driver), *CLASSES[worker_class]) as server:
        yield server


@pytest.fixture(scope="module")
def asgi_site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same under ASGI, where an async view's queries run in a thread."""
    directory = tmp_path_factory.mktemp("n1-asgi")
    settings = {**databases.settings("sqlite3"), "SITE_ASGI": "1"}
    with database_site(directory, settings, *CLASSES["asgi"]) as server:
        yield server


#: By path: where the query is asked for.
LOCATIONS = {
    "/n1_view/": lambda: at("n1_view", "n1_view"),
    "/n1_template/": lambda: f"list.html:4 < {at('n1_template', 'n1_template')}",
    "/n1_method/": lambda: at("n1_method", "label"),
    "/n1_stream/": lambda: at("n1_stream", "body"),
    "/n1_prefetch/": lambda: at("n1_prefetch", "n1_prefetch"),
    "/n1_literals/": lambda: at("n1_literals", "n1_literals"),
    "/n1_aliases/": lambda: at("n1_aliases", "n1_aliases"),
    "/n1_two/": lambda: at("n1_two", "n1_two"),
    "/n1_async/": lambda: at("n1_async", "n1_async"),
    "/n1_async_for/": lambda: at("n1_async_for", "n1_async_for"),
    "/n1_gather/": lambda: at("n1_gather", "look"),
    "/n1_thread/": lambda: at("n1_thread", "run"),
}

RUNS = {"/n1_prefetch/": "7", "/n1_two/": "5"}


def check(line: Line, path: str) -> None:
    """Check count, time and place of a line's worst query."""
    assert line["db_n1_loc"] == LOCATIONS[path]()
    assert line["db_n1_count"] == RUNS.get(path, "6")
    assert 0 < float(line["db_n1_time"]) <= float(line["db_time"])


@pytest.mark.parametrize("path", list(LOCATIONS))
def test_repeated_query_names_the_line_that_a_developer_changes(site: Server, path: str) -> None:
    """In loops, generators, templates, methods that templates call, threads and async views."""
    for _ in range(2):
        answer, line = site.ask(path)
        assert answer.status == 200, site.report()
        check(line, path)


@pytest.mark.parametrize("path", list(LOCATIONS))
def test_repeated_query_names_its_line_under_asgi(asgi_site: Server, path: str) -> None:
    """Sync views run in threads, async ones await them."""
    answer, line = asgi_site.ask(path)
    assert answer.status == 200, asgi_site.report()
    check(line, path)


def test_comprehension_and_included_template_are_named(site: Server) -> None:
    """The name of a comprehension's frame is Python's business; its line is ours."""
    _, line = site.ask("/n1_comprehension/")
    places = [at("n1_comprehension", name) for name in ("n1_comprehension", "<listcomp>")]
    assert line["db_n1_loc"] in places
    _, line = site.ask("/n1_include/")
    assert line["db_n1_loc"].startswith("row.html:3 < databases_n1.py:")


def test_text_has_no_literals(site: Server) -> None:
    """Values that an app has pasted into its SQL are nobody's business."""
    _, line = site.ask("/n1_literals/")
    assert line["db_n1"] == "SELECT ? AS n, ? AS word"
    assert "secret" not in str(line)
    _, line = site.ask("/n1_prefetch/")
    assert " IN (%s, ...)" in line["db_n1"]
    assert len(line["db_n1"].encode()) <= 300


@pytest.mark.parametrize("path", ["/n1_four/", "/three/", "/ok/"])
def test_query_that_ran_less_often_is_not_named(site: Server, path: str) -> None:
    """Four runs are none too many; the slowest isn't slow."""
    _, line = site.ask(path)
    assert not [key for key in line if key.startswith(("db_n1", "db_slowest"))]


def test_slowest_query_is_named(site: Server) -> None:
    """With its own time and place; a faster slow one isn't."""
    _, line = site.ask("/slowest/")
    total = float(line["db_slowest_time"])
    assert 0.25 < total <= float(line["db_time"]) + float(line["db_fetch_time"])
    assert line["db_slowest_loc"] == at("slowest", "slowest")
    assert re.fullmatch(r"SELECT \w+\(\?\)", line["db_slowest"])


def test_thresholds_are_the_operators(tmp_path: Path, databases: Databases) -> None:
    """Four runs are enough for who says so, and 10 ms are slow."""
    with database_site(
        tmp_path,
        databases.settings("psycopg"),
        OTEL_PYTHON_CANONICAL_N_PLUS_ONE="4",
        OTEL_PYTHON_CANONICAL_DB_SLOW_SECONDS="0.005",
    ) as server:
        _, line = server.ask("/n1_four/")
        assert line["db_n1_count"] == "4"
        _, line = server.ask("/n1_two/")
        assert line["db_slowest_loc"] == at("n1_two", "n1_two")


def test_span_and_log_event_carry_the_worst_as_lists(tmp_path: Path, databases: Databases) -> None:
    """Five at most, the worst first; also where the operator has excluded other fields."""
    settings = databases.settings("psycopg")
    with traced_databases(
        tmp_path, settings, OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS="req_user_agent"
    ) as (server, sink):
        _, line = server.ask("/n1_two/")
        root = sink.root_of(line)
        events = eventually(
            lambda: [log for log in list(sink.logs) if log.span_id == line["span_id"]],
            server.report,
        )
        [event] = events
        for attributes in (root.attributes, event.attributes):
            assert list(attributes["canonical.db.n1.counts"]) == [5, 5]
            texts = list(attributes["canonical.db.n1.queries"])
            assert texts == ["SELECT pg_sleep(?)", "SELECT ?"]
            locations = list(attributes["canonical.db.n1.locs"])
            assert locations[0] == at("n1_two", "n1_two") == attributes["canonical.db.n1.loc"]
            times = list(attributes["canonical.db.n1.times"])
            assert times[0] > times[1] > 0
            assert "user_agent.original" not in attributes
