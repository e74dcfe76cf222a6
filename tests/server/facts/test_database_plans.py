"""Plans of slow queries: fetched after the response, on a connection of their own, never of a write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.databases import SOME_DRIVERS, Databases, at, database_site, traced_databases
from tests.support.live import otel_canonical
from tests.support.servers import Line, Server, eventually

#: The slow ones take 0.2 s. On a busy machine others may, too, such as those that make the tables.
EXPLAIN = {"OTEL_PYTHON_CANONICAL_DB_EXPLAIN_SECONDS": "0.15"}


def slow_queries(server: Server) -> list[Line]:
    """Return the `slow_query` lines so far of requests for slow views."""
    return [
        line
        for line in server.lines()
        if line["event_type"] == "slow_query" and line["req_id"].startswith("slow_")
    ]


def wait_for_plan(server: Server, line: Line) -> Line:
    """Return the one `slow_query` line of a request."""
    found = eventually(
        lambda: [plan for plan in slow_queries(server) if plan["req_id"] == line["req_id"]],
        server.report,
    )
    assert len(found) == 1
    return found[0]


def ask(server: Server, path: str) -> Line:
    """Send a request; return its line, which is not the one of a plan."""
    server.get(path, X_Request_ID=path.strip("/"))

    def ended() -> list[Line]:
        return [
            line
            for line in server.lines()
            if line["req_id"] == path.strip("/") and line["event_type"] == "request"
        ]

    [line] = eventually(ended, server.report)
    return line


@pytest.mark.soak
@pytest.mark.parametrize("driver", SOME_DRIVERS)
def test_slow_query_has_a_line_with_its_plan(
    driver: str, databases: Databases, tmp_path: Path
) -> None:
    """Joined to the request by its ids; literals and parameters are not shown."""
    expected = {"sqlite3": "SCAN ", "mysqlclient": "table=", "pymysql": "table="}.get(driver, "")
    with database_site(tmp_path, databases.settings(driver), **EXPLAIN) as server:
        line = ask(server, "/slow_select/")
        plan = wait_for_plan(server, line)
        assert (plan["req_id"], plan["db_alias"]) == (line["req_id"], "default")
        assert f"{expected}auth_permission" in plan["db_plan"]
        assert plan["db_query"].startswith("SELECT ")
        assert plan["db_query_loc"] == at("slow_select", "slow_select")
        assert float(plan["db_query_time"]) >= 0.15
        assert "hunter2" not in server.report()
        assert "4711" not in plan["db_plan"]


def test_plans_are_switched_on_while_the_pool_runs(databases: Databases, tmp_path: Path) -> None:
    """And off again: from then on a slow query has none."""
    with database_site(tmp_path, databases.settings("sqlite3")) as server:
        ask(server, "/slow_in_transaction/")
        assert otel_canonical("set", str(server.pid), "explain_seconds=0.15").returncode == 0
        plan = wait_for_plan(server, ask(server, "/slow_select/"))
        assert "SCAN auth_permission" in plan["db_plan"]
        assert len(slow_queries(server)) == 1
        assert otel_canonical("set", str(server.pid), "explain_seconds=").returncode == 0
        assert "is switched" in otel_canonical("set", str(server.pid)).stdout


@pytest.mark.parametrize("driver", ["sqlite3", "psycopg", "mysqlclient"])
def test_writes_and_several_statements_have_no_plan(
    driver: str, databases: Databases, tmp_path: Path
) -> None:
    """What isn't a single SELECT isn't asked about: asking might run it."""
    with database_site(tmp_path, databases.settings(driver), **EXPLAIN) as server:
        ask(server, "/slow_write/")
        # The next plan is fetched after those that would have been.
        wait_for_plan(server, ask(server, "/slow_select/"))
        assert len(slow_queries(server)) == 1


@pytest.mark.parametrize("driver", ["sqlite3", "psycopg", "mysqlclient"])
def test_plan_is_not_fetched_inside_the_requests_transaction(
    driver: str, databases: Databases, tmp_path: Path
) -> None:
    """The connection of a plan sees nothing of what the request has not committed."""
    with database_site(tmp_path, databases.settings(driver), SITE_ATOMIC="1", **EXPLAIN) as server:
        line = ask(server, "/slow_in_transaction/")
        assert line["resp_status"] == "200"
        server.wait_for("no plan of a slow query on 'default'")
        # One that needs nothing uncommitted has its plan.
        wait_for_plan(server, ask(server, "/slow_select/"))


@pytest.mark.parametrize("driver", ["psycopg", "mysqlclient"])
def test_database_that_is_down_costs_a_warning(
    driver: str, databases: Databases, tmp_path: Path
) -> None:
    """No plan, no error, and the answers are the database's own affair."""
    settings = databases.settings(driver)
    with database_site(tmp_path, settings, SITE_BREAKS_AFTER="1", **EXPLAIN) as server:
        line = ask(server, "/slow_select/")
        assert line["resp_status"] == "200"
        server.wait_for("no plan of a slow query on 'default'")
        assert slow_queries(server) == []


def test_plan_is_fetched_behind_the_response_and_once(databases: Databases, tmp_path: Path) -> None:
    """The request's line, written with the last byte, stands before the plan's; a shape has one plan a minute."""
    with database_site(tmp_path, databases.settings("psycopg"), **EXPLAIN) as server:
        first = ask(server, "/slow_select/")
        plan = wait_for_plan(server, first)
        # The request's line is written when its last byte is out.
        assert [
            line["event_type"] for line in server.lines() if line["req_id"] == first["req_id"]
        ] == [*("request", "slow_query")]
        assert plan["ts"] >= first["ts"]
        assert first["db_queries"] == "1"
        for number in range(3):
            server.get("/slow_select/", X_Request_ID=f"slow_{number}")
            server.line_of(f"slow_{number}")
        # Plans come one after another: this one is behind all that could be of those three.
        wait_for_plan(server, ask(server, "/slow_other/"))
        assert [line["req_id"] for line in slow_queries(server)] == ["slow_select", "slow_other"]


def test_plan_is_on_span_and_log_event(databases: Databases, tmp_path: Path) -> None:
    """An event of the query's span, which ends when the query did; a log event of its own."""
    with traced_databases(tmp_path, databases.settings("psycopg"), **EXPLAIN) as (server, sink):
        line = ask(server, "/slow_select/")
        plan = wait_for_plan(server, line)
        root = sink.root_of(line)
        [span] = eventually(
            lambda: [span for span in sink.children_of(root) if "pg_sleep" in str(span)],
            server.report,
        )
        [event] = span.events
        assert event.name == "db.plan"
        assert "auth_permission" in event.attributes["canonical.db.plan"]
        assert span.ended_ns <= root.ended_ns
        [log] = eventually(
            lambda: [log for log in list(sink.logs) if log.event_name == "canonical.slow_query"],
            server.report,
        )
        assert (log.trace_id, log.severity) == (line["trace_id"], "WARN")
        assert log.attributes["canonical.db.plan"] == event.attributes["canonical.db.plan"]
        # Fetching the plan is none of the app's traces.
        assert not [span for span in sink.spans if "EXPLAIN" in str(span.attributes)]
        assert plan["sampled"] == "true"


def test_nothing_is_explained_by_default(databases: Databases, tmp_path: Path) -> None:
    """Plans are an opt-in."""
    with database_site(tmp_path, databases.settings("psycopg")) as server:
        ask(server, "/slow_select/")
        ask(server, "/three/")
        assert slow_queries(server) == []
