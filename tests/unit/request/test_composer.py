"""What a line says of a request's facts: each with its right value, and nothing of what it lacks."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from otel_canonical.event import logfmt
from otel_canonical.event.bounds import limits
from otel_canonical.event.event import EventType
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.pool.scoreboard import PoolState
from otel_canonical.request.composer import SHOWN_CACHE_NS, Composer
from otel_canonical.request.query_tally import thresholds
from otel_canonical.request.root import Root
from otel_canonical.request.scope import RequestScope, StackSample
from otel_canonical.request.shown_app_facts import SHORT
from otel_canonical.request.slow_queries import SlowQuery
from otel_canonical.settings import read_settings

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000
TRACE, SPAN = "a" * 32, "b" * 16


def a_root(*, is_exported: bool = True) -> Root:
    """Return a root whose ids name something."""
    facts = {"is_named": True, "is_exported": is_exported, "trace_id": TRACE, "span_id": SPAN}
    return cast("Root", SimpleNamespace(**facts))


def a_request(path: str = "/ok/", **facts: Any) -> RequestScope:
    """Return a request of 8 ms that was answered."""
    scope = RequestScope("GET", path, facts.pop("headers", {}))
    scope.ended_ns = scope.started_ns + 8 * MILLISECOND
    scope.modules = 1_000_000
    scope.request_id, scope.status = "id1", 200
    for name, value in facts.items():
        setattr(scope, name, value)
    return scope


def line_of(
    scope: RequestScope, event_type: EventType = EventType.REQUEST, **environ: str
) -> dict[str, Any]:
    """Return the fields of a request's line, in their order, without its moment."""
    settings = read_settings(
        {f"OTEL_PYTHON_CANONICAL_{name}": value for name, value in environ.items()}, str
    )
    event = Composer(settings, RedactionPolicy(())).request_event(scope, event_type)
    return {key: value for key, value in event.pairs if key not in ("ts", "gc_time", "gc_runs")}


#: Of every request above.
HEAD = {"event_type": "request", "req_method": "GET", "req_path": "/ok/", "resp_status": 200}
HEAD |= {"resp_time": 0.008}


@pytest.fixture(autouse=True)
def _five_runs_and_a_tenth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "n_plus_one", 5)
    monkeypatch.setattr(thresholds, "slow_ns", 100 * MILLISECOND)


def test_least_request_has_a_head_and_an_id() -> None:
    """What is not known is left out."""
    assert line_of(a_request()) == {**HEAD, "req_id": "id1"}


def test_request_without_an_answer_has_no_status() -> None:
    """Its time is known all the same; of a request that still runs, how long it has run."""
    found = line_of(a_request(status=None))
    assert list(found) == ["event_type", "req_method", "req_path", "resp_time", "req_id"]
    assert found["resp_time"] == 0.008
    running = a_request(ended_ns=None, status=None)
    running.started_ns -= 3 * SECOND
    assert 3 <= line_of(running, EventType.SLOW)["resp_time"] < 60


@pytest.mark.parametrize(("method", "path"), [("", ""), ("BREW", "/a b"), ("GET", "/\x1b")])
def test_head_is_the_clients_whatever_it_sent(method: str, path: str) -> None:
    """A method or a path that has none of the quick ways."""
    found = line_of(a_request(path, method=method))
    assert (found.get("req_method", ""), found.get("req_path", "")) == (method, path)
    assert ("req_method" in found, "req_path" in found) == (bool(method), bool(path))
    assert (found["resp_status"], found["resp_time"]) == (200, 0.008)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/ok/"), ("BREW x=1", "/ok/"), ("GET", '/a b="c'), ("GET", "/\x1b")],
)
def test_head_is_written_as_it_can_be_read(method: str, path: str) -> None:
    """A method or a path that needs quotes has them, and forges no key."""
    composer = Composer(read_settings({}, str), RedactionPolicy(()))
    event = composer.request_event(a_request(path, method=method))
    found = logfmt.parse(event.as_logfmt())
    assert (found["req_method"], found["req_path"], found["resp_status"]) == (method, path, "200")
    assert "x" not in found


def test_who_asked_is_shown_without_what_is_empty() -> None:
    """Each by its own key; an empty value counts as absent."""
    whole = {"route": "ok/", "view": "shop.ok", "user_id": "7", "client": "1.2.3.4", "host": "a"}
    whole |= {"scheme": "https", "proto": "1.1", "content_length": 0, "queue_s": 0.5}
    headers = {"USER-AGENT": "curl/8", "REFERER": "https://elsewhere/x?token=1"}
    found = line_of(a_request(headers=headers, query_string="a=1", **whole))
    assert found == {
        **HEAD,
        "req_route": "ok/",
        "resp_view": "shop.ok",
        "user_id": "7",
        "req_client": "1.2.3.4",
        "req_host": "a",
        "req_scheme": "https",
        "req_proto": "1.1",
        "req_referrer": "https://elsewhere",
        "req_user_agent": "curl/8",
        "req_bytes": 0,
        "req_queue_time": 0.5,
        "req_id": "id1",
    }
    empty = dict.fromkeys(("client", "host", "scheme", "proto"), "")
    assert line_of(a_request(headers={"USER-AGENT": "", "REFERER": ""}, **empty)) == {
        **HEAD,
        "req_id": "id1",
    }


def test_query_string_is_shown_where_it_is_asked_for() -> None:
    """Redacted; an empty one is none."""
    found = line_of(a_request(query_string="a=1&password=x"), QUERY_STRING="true")
    assert found["req_query"] == "a=1&password=[redacted]"
    assert "req_query" not in line_of(a_request(query_string=""), QUERY_STRING="true")


def test_user_agent_is_as_it_was_meant_and_bounded() -> None:
    """Servers read bytes as Latin-1."""
    meant = "ä" * 3
    sent = meant.encode().decode("latin-1")
    assert line_of(a_request(headers={"USER-AGENT": sent}))["req_user_agent"] == meant
    for length, is_whole in ((limits.value, True), (limits.value + 1, False)):
        shown = line_of(a_request(headers={"USER-AGENT": "x" * length}))["req_user_agent"]
        assert (shown == "x" * length) is is_whole


def test_token_in_a_path_is_hidden() -> None:
    """A captured part by its name, and a JWT wherever it stands."""
    found = line_of(a_request("/reset/hunter2/", url_kwargs={"token": "hunter2"}))
    assert found["req_path"] == "/reset/[redacted]/"
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
    assert token not in line_of(a_request(f"/in/{token}/"))["req_path"]


def test_calls_are_shown_by_system_with_http_first() -> None:
    """The others in the order in which they were called; failures where there are any."""
    scope = a_request()
    scope.add_call("redis", 2 * MILLISECOND, failed=False)
    scope.add_call("http", 3 * MILLISECOND, failed=True)
    scope.add_call("redis", 4 * MILLISECOND, failed=False)
    found = line_of(scope)
    assert found == {
        **HEAD,
        "http_calls": 1,
        "http_time": 0.003,
        "http_errors": 1,
        "redis_calls": 2,
        "redis_time": 0.006,
        "req_id": "id1",
    }
    assert list(found)[5:8] == ["http_calls", "http_time", "http_errors"]


def test_database_work_is_shown_with_each_of_its_times() -> None:
    """Queries, repeats, fetching, connecting, transactions and failures: each is its own."""
    scope = a_request()
    for _ in range(2):
        scope.add_query("SELECT a", 2 * MILLISECOND, failed=False)
    scope.add_query("SELECT b", 5 * MILLISECOND, failed=True)
    tally = scope.query_tally()
    tally.fetch_ns, tally.rows = 7 * MILLISECOND, 11
    plain = {**HEAD, "db_queries": 3, "db_time": 0.009, "db_dup_queries": 2, "db_dup_time": 0.004}
    plain |= {"db_fetch_time": 0.007, "db_rows": 11}
    assert line_of(scope) == {**plain, "db_errors": 1, "req_id": "id1"}
    tally.connects, tally.connect_ns, tally.txn_ns = 1, 13 * MILLISECOND, 17 * MILLISECOND
    assert line_of(scope) == {
        **plain,
        "db_connects": 1,
        "db_connect_time": 0.013,
        "db_txn_time": 0.017,
        "db_errors": 1,
        "req_id": "id1",
    }


def test_renders_and_look_ups_are_shown_where_there_were_any() -> None:
    """A look-up that failed is neither hit nor miss, but may have taken long."""
    shown = {"template_renders": 2, "template_ns": 3 * MILLISECOND}
    shown |= {"cache_hits": 1, "cache_misses": 2, "cache_ns": 4 * MILLISECOND}
    found = line_of(a_request(**shown))
    assert {key: found[key] for key in found if key.startswith(("tpl", "cache"))} == {
        "tpl_renders": 2,
        "tpl_time": 0.003,
        "cache_hits": 1,
        "cache_misses": 2,
        "cache_time": 0.004,
    }
    for facts, is_shown in (
        ({"cache_hits": 1}, True),
        ({"cache_misses": 1}, True),
        ({"cache_ns": SHOWN_CACHE_NS}, True),
        ({"cache_ns": SHOWN_CACHE_NS - 1}, False),
    ):
        assert ("cache_time" in line_of(a_request(**facts))) is is_shown
    assert SHOWN_CACHE_NS == 100 * MICROSECOND


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (
            PoolState(4, 3, 8, 5, 2),
            {"g_w_count": 4, "g_w_active": 3, "g_backlog": 2, "g_t_count": 8, "g_t_active": 5},
        ),
        (
            PoolState(4, 3, 8, 5, 0, 6),
            {
                "g_w_count": 4,
                "g_w_active": 3,
                "g_backlog": 0,
                "g_t_count": 8,
                "g_t_active": 5,
                "g_t_waiting": 6,
            },
        ),
        (PoolState(4, 3, None, 5, None), {"g_w_count": 4, "g_w_active": 3, "g_t_active": 5}),
        (
            PoolState(4, 3, None, 5, 2, 6),
            {"g_w_count": 4, "g_w_active": 3, "g_backlog": 2, "g_t_active": 5, "g_t_waiting": 6},
        ),
        (
            PoolState(4, 3, 8, 5, None),
            {"g_w_count": 4, "g_w_active": 3, "g_t_count": 8, "g_t_active": 5},
        ),
    ],
)
def test_pool_is_shown_as_far_as_it_is_known(state: PoolState, shown: dict[str, int]) -> None:
    """What is unknown is left out, never shown as 0."""
    assert line_of(a_request(pool=state)) == {**HEAD, **shown, "req_id": "id1"}


def test_neighbours_are_shown_with_the_request_itself() -> None:
    """By route, the most frequent first."""
    found = line_of(a_request(route="a/", neighbours=Counter({"b/": 3, "a/": 1})))
    assert found["g_open"] == "3*b/ 2*a/"


@pytest.mark.parametrize("request_id", ["id1", "with-dash"])
@pytest.mark.parametrize("is_exported", [True, False])
def test_ids_are_last_and_only_where_they_name_something(
    request_id: str, is_exported: bool
) -> None:
    """Of the worker, of the request, of its trace."""
    facts: dict[str, Any] = {"request_id": request_id, "pid": 5, "worker_requests": 3}
    worker = {"g_pid": 5, "g_w_requests": 3, "req_id": request_id}
    trace = {"trace_id": TRACE, "span_id": SPAN, "sampled": is_exported}
    assert line_of(a_request(**facts)) == HEAD | worker
    found = line_of(a_request(**facts, root=a_root(is_exported=is_exported)))
    assert found == HEAD | worker | trace
    assert list(found)[-6:] == [*worker, *trace]
    for missing in ("pid", "worker_requests"):
        bare = line_of(a_request(**{**facts, missing: None}))
        assert bare == {**HEAD, "req_id": request_id}


def test_what_went_wrong_is_shown_on_the_line_that_says_so() -> None:
    """A lost request's cause on its `lost` line only; a client that left on each."""
    scope = a_request(client_gone=True, lost_cause="shutdown")
    assert "lost_cause" not in line_of(scope)
    assert line_of(scope)["client_gone"] is True
    lost = line_of(scope, EventType.LOST)
    assert (lost["event_type"], lost["lost_cause"]) == ("lost", "shutdown")
    assert "client_gone" not in line_of(a_request(lost_cause="shutdown"))
    assert line_of(a_request(lost_cause="oom"), EventType.LOST)["lost_cause"] == "oom"
    assert "lost_cause" not in line_of(a_request(), EventType.LOST)


@pytest.mark.parametrize("event_type", [EventType.REQUEST, EventType.TIMEOUT])
def test_deadline_is_exceeded_by_a_request_that_ends_all_the_same(event_type: EventType) -> None:
    """A `timeout` line says so by its type."""
    scope = a_request()
    scope.stuck = StackSample(scope.started_ns + 5 * SECOND, "a.py:1:f", "b.py:2:g", "")
    found = line_of(scope, event_type)
    assert found.get("deadline_exceeded") is (True if event_type is EventType.REQUEST else None)
    assert (found["timeout_loc"], found["timeout_seen"]) == ("a.py:1:f", 5.0)


def test_facts_of_the_app_are_shown_with_their_times() -> None:
    """How often is shown of what was timed more than once."""
    scope = a_request()
    scope.set_app("plan", "pro")
    scope.set_app("password", "hunter2")
    scope.add_time("once", 2 * MILLISECOND)
    for _ in range(2):
        scope.add_time("twice", 3 * MILLISECOND)
    found = line_of(scope)
    assert {key: value for key, value in found.items() if key.startswith("app_")} == {
        "app_once_time": 0.002,
        "app_twice_time": 0.006,
        "app_twice_count": 2,
        "app_plan": "pro",
        "app_password": "[redacted]",
    }


def test_long_texts_of_the_app_are_bounded_together() -> None:
    """Each is searched for secrets, which takes time: the first ones whole, later ones in short."""
    scope = a_request()
    length = limits.event // 8
    for name in ("first", "second", "token"):
        scope.set_app(name, "x" * length)
    scope.set_app("short", "y" * SHORT)
    found = line_of(scope)
    assert len(found["app_second"]) < len(found["app_first"])
    assert len(found["app_second"]) < 3 * SHORT
    assert found["app_token"] == "[redacted]"
    assert found["app_short"] == "y" * SHORT


def test_excluded_fields_are_on_no_line() -> None:
    """Of any row; the rest stays in its order."""
    scope = a_request(pool=PoolState(4, 3, 8, 5, 2), pid=5, worker_requests=3, route="ok/")
    for _ in range(5):
        scope.add_query("SELECT a", 2 * MILLISECOND, failed=False)
    found = line_of(scope, EXCLUDED_FIELDS="g_*,req_route,db_n1_loc,db_*time")
    assert {key for key in found if key.startswith(("g_", "req_route"))} == set()
    assert {key: found[key] for key in found if key.startswith("db_")} == {
        "db_queries": 5,
        "db_dup_queries": 5,
        "db_rows": 0,
        "db_n1": "SELECT a",
        "db_n1_count": 5,
    }
    assert list(found)[:5] == list(HEAD)


def test_least_event_has_status_and_ids() -> None:
    """For when the whole event can't be composed."""
    composer = Composer(read_settings({}, str), RedactionPolicy(()))
    found = dict(composer.least_event(a_request(root=a_root()), EventType.TIMEOUT).pairs)
    del found["ts"]
    assert found == {
        "event_type": "timeout",
        "resp_status": 200,
        "req_id": "id1",
        "trace_id": TRACE,
        "span_id": SPAN,
        "sampled": True,
    }
    bare = dict(composer.least_event(a_request(status=None), EventType.REQUEST).pairs)
    assert list(bare) == ["ts", "event_type", "req_id"]


def test_slow_query_has_its_plan_on_a_line_of_its_own() -> None:
    """Joined to the request by its ids; the plan is one line, and bounded."""
    composer = Composer(read_settings({}, str), RedactionPolicy(()))
    query = SlowQuery("default", "SELECT 'x'  FROM a", None, 1_500_000_000, "a.py:1:f")
    event = composer.slow_query_event(a_request(), query, "SCAN a\nSORT " + "b" * 5000)
    found = dict(event.pairs)
    plan = found.pop("db_plan")
    del found["ts"]
    assert found == {
        "event_type": "slow_query",
        "db_query": "SELECT ? FROM a",
        "db_query_time": 1.5,
        "db_query_loc": "a.py:1:f",
        "db_alias": "default",
        "req_id": "id1",
    }
    assert str(plan).startswith("SCAN a / SORT bbb")
    assert len(str(plan)) <= 2000
    assert str(event.attributes()["canonical.db.plan"]).startswith("SCAN a\nSORT bbb")
