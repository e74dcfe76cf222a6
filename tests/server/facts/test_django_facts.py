"""What Django knows of a request is on its line: queries, renders, look-ups, user, time."""

from __future__ import annotations

import time
from pathlib import Path

import django
import pytest

from tests.support.servers import Line, Server, gunicorn

DB_FACTS = ("db_queries", "db_dup_queries", "db_errors")


def pick(line: Line, keys: tuple[str, ...] = DB_FACTS) -> Line:
    """Return those of `keys` that a line has."""
    return {key: line[key] for key in keys if key in line}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ok/", {}),
        ("/queries/", {"db_queries": "5", "db_dup_queries": "2"}),
        ("/two-databases/", {"db_queries": "2", "db_dup_queries": "2"}),
        ("/failing-query/", {"db_queries": "1", "db_dup_queries": "0", "db_errors": "1"}),
        ("/iterates/", {"db_queries": "1", "db_dup_queries": "0"}),
        ("/async-counts/", {"db_queries": "2", "db_dup_queries": "0"}),
        ("/atomically/", {"db_queries": "2", "db_dup_queries": "0"}),
        ("/raw-sqlite/", {"db_queries": "1", "db_dup_queries": "0"}),
    ],
)
def test_queries_are_counted_exactly(either: Server, path: str, expected: Line) -> None:
    """On both aliases, by cursor, ORM and `executemany`, sync and async, under DEBUG or not."""
    either.get("/migrates/")
    _, line = either.ask(path)
    assert pick(line) == expected
    if expected:
        assert 0 < float(line["db_time"]) <= float(line["resp_time"])
        assert float(line["db_dup_time"]) <= float(line["db_time"])


def test_nothing_of_start_up_is_on_first_line(tmp_path: Path) -> None:
    """What the app queries and sets while it is loaded is no request's; its connection is watched."""
    with gunicorn(
        "every_kind", tmp_path, SITE_DIRECTORY=str(tmp_path), SITE_QUERIES_AT_START="1"
    ) as server:
        _, first = server.ask("/ok/")
        _, second = server.ask("/queries/")
        _, third = server.ask("/ok/")
    for line in (first, third):
        assert not [key for key in line if key.startswith(("db_", "app_"))]
    assert second["db_queries"] == "5"


def test_renders_are_counted_without_includes(site: Server) -> None:
    """A page that extends one template and includes another is one render."""
    _, line = site.ask("/good-template/")
    assert line["tpl_renders"] == "1"
    assert 0 < float(line["tpl_time"]) <= float(line["resp_time"])


def test_render_is_counted_when_it_raises(site: Server) -> None:
    """A template that fails was rendered all the same."""
    _, line = site.ask("/bad-template/")
    # Django 4.2 renders a report to the site's admins besides, whether or not there are any.
    assert line["tpl_renders"] == ("1" if django.VERSION >= (5,) else "2")


def test_lookups_are_counted_by_key(site: Server) -> None:
    """`get` is one, `get_many` as many as it asks for; each a hit or a miss."""
    _, line = site.ask("/cached/")
    assert (line["cache_hits"], line["cache_misses"]) == ("2", "3")
    assert 0 <= float(line["cache_time"]) <= float(line["resp_time"])


def test_user_id_without_query_when_user_is_set(either: Server) -> None:
    """The primary key of what `request.user` was set to."""
    _, line = either.ask("/signed-in/")
    assert line["user_id"] == "42"
    assert "db_queries" not in line


def test_no_user_id_when_nobody_signed_in(either: Server) -> None:
    """An anonymous request has no user and costs no query."""
    _, line = either.ask("/anonymous/")
    assert "user_id" not in line
    assert "db_queries" not in line


def test_cpu_time_is_at_least_what_was_spent(site: Server) -> None:
    """A view that spends 50 ms of CPU says so, one that sleeps doesn't."""
    _, spent = site.ask("/spends-cpu/")
    assert float(spent["resp_time"]) >= float(spent["resp_cpu_time"]) >= 0.05
    _, slept = site.ask("/sleeps/?s=0.2")
    assert float(slept["resp_time"]) >= 0.2
    assert float(slept["resp_time"]) - float(slept["resp_cpu_time"]) > 0.1


def test_line_has_no_client_when_socket_is_unix(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Behind a unix socket there is no client address; the rest of the line is there."""
    directory = tmp_path_factory.mktemp("unix")
    socket_path = directory / "g.sock"
    with gunicorn(
        "every_kind", directory, bind=f"unix:{socket_path}", SITE_DIRECTORY=str(directory)
    ) as server:
        answer, line = server.ask("/ok/", Host="localhost:8000", X_Request_Start="t=1")
        server.send(b"NONSENSE\r\n\r\n")
        refused = server.wait_for_lines(2)[1]
    assert answer.status == 200
    assert (line["req_host"], line["req_scheme"], line["req_path"]) == ("localhost", "http", "/ok/")
    assert refused["resp_status"] == "400"
    for each in (line, refused):
        assert "req_client" not in each
        assert "req_queue_time" not in each


def test_line_has_queue_time_when_proxy_notes_it(site: Server) -> None:
    """Time spent before Gunicorn, at least what had passed when the request was sent."""
    note = f"t={time.time() - 1.5:.6f}"
    _, line = site.ask("/ok/", X_Request_Start=note)
    assert float(line["req_queue_time"]) >= 1.499


def test_async_view_is_served_with_its_facts(site: Server) -> None:
    """An async view's name, route and what it sets from its own task."""
    _, line = site.ask("/async-view/")
    assert (line["resp_view"], line["req_route"], line["app_async"]) == (
        "every_kind.async_view",
        "async-view/",
        "true",
    )
    assert float(line["resp_time"]) >= 0.01
