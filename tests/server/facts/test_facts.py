"""Facts: what Django knows and what the app says, on the line of the request that did it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.core.cache import caches
from django.db import connections
from django.http import Http404, HttpResponse
from django.test import Client, override_settings
from django.urls import path

import otel_canonical
from otel_canonical.django import cache, templates
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.request import app_facts
from otel_canonical.request.composer import Composer
from otel_canonical.request.scope import RequestScope, current_scope
from otel_canonical.settings import Settings
from otel_canonical.testing import capture_events
from tests.support.servers import Line, Server, eventually, gunicorn

View = Callable[..., Any]
Event = dict[str, Any]

DB_FACTS = ("db_queries", "db_dup_queries", "db_errors")


@pytest.fixture(scope="module")
def debug_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same site under Django's DEBUG."""
    directory = tmp_path_factory.mktemp("debug")
    with gunicorn("every_kind", directory, SITE_DIRECTORY=str(directory), SITE_DEBUG="1") as server:
        yield server


@pytest.fixture(params=["site", "debug_site"])
def either(request: pytest.FixtureRequest) -> Server:
    """A site in production, and one under DEBUG."""
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def enrichers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(app_facts, "_enrichers", [])


def events_of(view: View, client: Client | None = None, **settings: Any) -> list[Event]:
    """Return the events of one request that `view` serves."""
    settings = {"ROOT_URLCONF": (path("view/", view),), "ALLOWED_HOSTS": ["testserver"], **settings}
    with override_settings(**settings), capture_events() as events:
        (client or Client(raise_request_exception=False)).get("/view/")
    return events


def event_of(view: View, client: Client | None = None, **settings: Any) -> Event:
    """Return the one event of one request that `view` serves."""
    [event] = events_of(view, client, **settings)
    return event


def pick(line: Line, keys: tuple[str, ...] = DB_FACTS) -> Line:
    """Return those of `keys` that a line has."""
    return {key: line[key] for key in keys if key in line}


# Queries, templates, cache.


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


def test_query_is_failed_when_it_raises_in_the_view(in_process: None) -> None:
    """A query that ends the request is counted with its error."""

    def view(request: Any) -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    event = event_of(view)
    assert (event["db_queries"], event["db_errors"], event["resp_status"]) == (1, 1, 500)
    assert event["exc_type"] == "OperationalError"


def test_duplicates_are_all_runs_of_a_text(in_process: None) -> None:
    """The first run of a repeated text counts as well; parameters make no other text."""

    def view(request: Any) -> HttpResponse:
        with connections["default"].cursor() as cursor:
            for n in range(10):
                cursor.execute("SELECT %s", [n])
            cursor.execute("SELECT 1, 2")
        return HttpResponse()

    event = event_of(view)
    assert (event["db_queries"], event["db_dup_queries"]) == (11, 10)


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


def test_renders_are_counted_each_when_view_renders_twice(in_process: None) -> None:
    """Two renders after each other are two, a third after one that raised is a third."""
    from django.template.loader import render_to_string

    def view(request: Any) -> HttpResponse:
        render_to_string("good.html")
        with contextlib.suppress(ZeroDivisionError):
            render_to_string("good.html", {"x": _Raises()})
        return HttpResponse(render_to_string("part.html"))

    assert event_of(view)["tpl_renders"] == 3


class _Raises:
    def __str__(self) -> str:
        raise ZeroDivisionError


class Interrupted:
    """A clock that ticks once a second, and is interrupted by another thread of the request once."""

    def __init__(self, at: int, work: Callable[[], object]) -> None:
        self._ticks = itertools.count(1)
        self._at = at
        self._work = work

    def perf_counter_ns(self) -> int:
        """Return the time; at the tick that was asked for, when another thread has worked."""
        tick = next(self._ticks)
        if tick == self._at:
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(self._work,))
            thread.start()
            thread.join()
        return tick * 10**9


def test_times_are_of_all_threads_when_two_end_at_once(
    in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that adds its time while another one is about to."""
    from django.template.loader import render_to_string

    caches["default"].clear()

    def view(request: Any) -> HttpResponse:
        for room, work in (
            (templates, lambda: render_to_string("part.html")),
            (cache, lambda: caches["default"].get("gone")),
        ):
            # It begins, it ends: meanwhile the other one begins and ends, a tick later each.
            monkeypatch.setattr(room, "time", Interrupted(2, work))
            work()
        return HttpResponse()

    event = event_of(view)
    assert (event["tpl_renders"], event["tpl_time"]) == (2, 2.0)
    assert (event["cache_misses"], event["cache_time"]) == (2, 2.0)


def test_lookups_are_counted_by_key(site: Server) -> None:
    """`get` is one, `get_many` as many as it asks for; each a hit or a miss."""
    _, line = site.ask("/cached/")
    assert (line["cache_hits"], line["cache_misses"]) == ("2", "3")
    assert 0 <= float(line["cache_time"]) <= float(line["resp_time"])


@pytest.mark.parametrize(
    ("look_up", "hits", "misses"),
    [
        (lambda cache: cache.get("here"), 1, 0),
        (lambda cache: cache.get("gone", "a default"), 0, 1),
        (lambda cache: cache.get("none"), 1, 0),
        (lambda cache: cache.get(key="here", default=None, version=1), 1, 0),
        (lambda cache: cache.get_many(iter(["here", "gone"])), 1, 1),
        (lambda cache: cache.get_or_set("here", 2), 1, 0),
        (lambda cache: cache.get_or_set("gone", 2), 0, 1),
        (lambda cache: cache.get_or_set("gone", None), 0, 1),
        (lambda cache: cache.get_or_set("gone", lambda: cache.get("here")), 1, 1),
        (lambda cache: cache.get_or_set("gone", lambda: cache.get_or_set("away", 1)), 0, 2),
        (lambda cache: [cache.get_or_set("gone", 2), cache.get("gone")], 1, 1),
        (lambda cache: asyncio.run(cache.aget_or_set("gone", 2)), 0, 1),
        (lambda cache: asyncio.run(cache.aget_or_set("here", 2)), 1, 0),
        (lambda cache: cache.set("here", 2), 0, 0),
        (lambda cache: asyncio.run(cache.aget("here")), 1, 0),
        (lambda cache: asyncio.run(cache.aget_many(["here", "gone"])), 1, 1),
    ],
)
def test_lookup_is_hit_or_miss_whatever_the_method(
    in_process: None, look_up: Callable[[Any], object], hits: int, misses: int
) -> None:
    """A cached None is a hit; what one look-up does by another counts once."""

    def view(request: Any) -> HttpResponse:
        look_up(caches["default"])
        return HttpResponse()

    caches["default"].clear()
    caches["default"].set_many({"here": 1, "none": None})
    event = event_of(view)
    assert (event.get("cache_hits", 0), event.get("cache_misses", 0)) == (hits, misses)


def test_value_is_what_cache_gives_when_it_is_watched(in_process: None) -> None:
    """Counting changes no answer: values, defaults and None are what they were."""
    got: list[object] = []

    def view(request: Any) -> HttpResponse:
        cache = caches["default"]
        cache.set_many({"here": 1, "none": None})
        got.extend(
            [cache.get("here"), cache.get("none", 7), cache.get("gone"), cache.get("gone", 7)]
        )
        got.append(cache.get_many(["here", "gone"]))
        return HttpResponse()

    caches["default"].clear()
    event_of(view)
    assert got == [1, None, None, 7, {"here": 1}]


# The user.


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


@pytest.fixture
def ada(in_process: None) -> Any:
    """A user who is in the database."""
    from django.contrib.auth.models import User

    return User.objects.get_or_create(username="ada")[0]


@pytest.fixture
def client_of_ada(ada: Any) -> Client:
    """A client that ada is signed in with, the session being in the database."""
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.db"):
        client = Client()
        client.force_login(ada)
    return client


def _with_database_sessions(view: View, client: Client) -> Event:
    return event_of(view, client, SESSION_ENGINE="django.contrib.sessions.backends.db")


def test_user_is_not_looked_up_when_view_does_not(client_of_ada: Client) -> None:
    """A session in the database is left there: no query, no user."""
    event = _with_database_sessions(lambda request: HttpResponse(), client_of_ada)
    assert "user_id" not in event
    assert "db_queries" not in event


def test_user_id_is_shown_when_view_looks_user_up(client_of_ada: Client, ada: Any) -> None:
    """The view's own two queries, for session and user, and none of ours."""

    def view(request: Any) -> HttpResponse:
        return HttpResponse(request.user.username)

    event = _with_database_sessions(view, client_of_ada)
    assert (event["user_id"], event["db_queries"]) == (str(ada.pk), 2)


@pytest.mark.skipif(django.VERSION < (5,), reason="`request.auser` came with Django 5.0")
def test_user_id_is_shown_when_async_view_looks_user_up(client_of_ada: Client, ada: Any) -> None:
    """`request.auser()` is a look-up as good as `request.user`."""

    async def view(request: Any) -> HttpResponse:
        return HttpResponse((await request.auser()).username)

    event = _with_database_sessions(view, client_of_ada)
    assert (event["user_id"], event["db_queries"]) == (str(ada.pk), 2)


def test_user_id_is_of_end_of_request_when_user_signs_in(in_process: None, ada: Any) -> None:
    """Who was anonymous when the request came and signed in during it is who it says."""
    from django.contrib.auth import login

    def view(request: Any) -> HttpResponse:
        assert not request.user.is_authenticated
        login(request, ada)
        return HttpResponse()

    assert _with_database_sessions(view, Client())["user_id"] == str(ada.pk)


def test_no_user_id_when_user_signs_out(client_of_ada: Client) -> None:
    """Who signed out during the request is nobody at its end."""
    from django.contrib.auth import logout

    def view(request: Any) -> HttpResponse:
        assert request.user.is_authenticated
        logout(request)
        return HttpResponse()

    assert "user_id" not in _with_database_sessions(view, client_of_ada)


# The request and its time.


def test_cpu_time_is_at_least_what_was_spent(site: Server) -> None:
    """A view that spends 50 ms of CPU says so, one that sleeps doesn't."""
    _, spent = site.ask("/spends-cpu/")
    assert float(spent["resp_time"]) >= float(spent["resp_cpu_time"]) >= 0.05
    _, slept = site.ask("/sleeps/?s=0.2")
    assert float(slept["resp_time"]) >= 0.2
    assert float(slept["resp_time"]) - float(slept["resp_cpu_time"]) > 0.1


def test_line_has_no_client_when_socket_is_unix(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Behind a unix socket nobody has an address; the rest of the line is there."""
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


def test_no_error_when_view_raises_an_answer(in_process: None) -> None:
    """Http404 and PermissionDenied are answers; the route is there all the same."""
    from django.core.exceptions import PermissionDenied

    def denies(request: Any) -> None:
        raise PermissionDenied

    def misses(request: Any) -> None:
        raise Http404

    for view, status in ((denies, 403), (misses, 404)):
        event = event_of(view)
        assert (event["resp_status"], event["req_route"]) == (status, "view/")
        assert "exc_type" not in event


# What the app says.


def test_app_facts_are_on_line(site: Server) -> None:
    """What was set, added and timed, and a secret that was set, redacted."""
    _, line = site.ask("/facts/?t=token-1")
    facts = {key: value for key, value in line.items() if key.startswith("app_")}
    assert float(facts.pop("app_once_time")) >= 0.01
    assert float(facts.pop("app_thrice_time")) >= 0
    assert facts == {
        "app_seen": "token-1",
        "app_plan": "pro",
        "app_api_key": "[redacted]",
        "app_items": "7",
        "app_thrice_count": "3",
    }


def test_short_runs_sum_to_truth(site: Server) -> None:
    """100 runs of 0.3 ms are at least 30 ms, and no more than what the app itself measured."""
    answer, line = site.ask("/short-timers/")
    assert 0.03 <= float(line["app_short_time"]) <= json.loads(answer.body)["elapsed"]
    assert line["app_short_count"] == "100"


def test_odd_facts_leave_line_whole(site: Server) -> None:
    """Any value has its text, any key is repaired, and none of ours can be forged."""
    answer, line = site.ask("/odd-facts/")
    assert answer.status == 200
    assert line["event_type"] == "request"
    assert {key: value for key, value in line.items() if key.startswith("app_")} == {
        "app_date": "2024-02-29",
        "app_decimal": "1.50",
        "app_enum": "pro",
        "app_fails": "!err",
        "app_huge": "1180591620717411303424",
        "app_infinite": "inf",
        "app_list": "[1, 'two']",
        "app_no_number": "nan",
        "app_surrogate": "a\ud800b",
        "app_true": "true",
        "app_a_key__b__": "repaired",
        "app_": "no key",
        "app_event_type": "forged",
        "app_7": "a number for a key",
    }


def test_facts_are_replaced_added_and_removed(in_process: None) -> None:
    """A later value replaces an earlier one, None removes, numbers add up and stay numbers."""
    from decimal import Decimal

    seen: list[object] = []

    def view(request: Any) -> HttpResponse:
        otel_canonical.set("plan", "free")
        otel_canonical.set("plan", "pro")
        otel_canonical.set("gone", 1)
        otel_canonical.set("gone", None)
        otel_canonical.set("never", None)
        otel_canonical.add("count")
        otel_canonical.add("count", 2)
        otel_canonical.add("sum", 0.5)
        otel_canonical.add("sum", Decimal("0.25"))
        otel_canonical.set("text", "x")
        otel_canonical.add("text", 4)
        otel_canonical.set(7, 1)  # type: ignore[arg-type]
        seen.extend([otel_canonical.get("plan"), otel_canonical.get("gone", "default")])
        seen.extend(
            [otel_canonical.get("count"), otel_canonical.get("never"), otel_canonical.get(7)]
        )
        return HttpResponse()

    event = event_of(view)
    assert {key: value for key, value in event.items() if key.startswith("app_")} == {
        "app_plan": "pro",
        "app_count": 3,
        "app_sum": 0.75,
        "app_text": 4,
        "app_7": 1,
    }
    assert seen == ["pro", "default", 3, None, 1]


def test_nothing_is_lost_when_another_thread_adds_meanwhile(in_process: None) -> None:
    """Here it is the number's own conversion that does, at the moment that matters."""

    class Converted:
        def __float__(self) -> float:
            otel_canonical.add("sum", 0.5)
            return 2.0

    def view(request: Any) -> HttpResponse:
        otel_canonical.add("sum", Converted())
        otel_canonical.set("text", "x")
        otel_canonical.add("text", Converted())
        return HttpResponse()

    event = event_of(view)
    assert (event["app_sum"], event["app_text"]) == (3.0, 2.0)


def test_lazy_value_is_read_when_it_is_set(in_process: None) -> None:
    """A lazy object is shown as it was then, not as it became."""
    from django.utils.functional import SimpleLazyObject
    from django.utils.safestring import mark_safe

    current = ["then"]

    def view(request: Any) -> HttpResponse:
        otel_canonical.set("lazy", SimpleLazyObject(lambda: current[0]))
        otel_canonical.set("safe", mark_safe("<b>"))
        current[0] = "later"
        return HttpResponse()

    event = event_of(view)
    assert (event["app_lazy"], type(event["app_lazy"])) == ("then", str)
    assert (event["app_safe"], type(event["app_safe"])) == ("<b>", str)


def test_key_is_there_once_when_app_sets_what_it_also_times() -> None:
    """A fact `pricing_time` beside a timer `pricing` makes one key, not two of a name."""
    scope = RequestScope("GET", "/", {})
    scope.set_app("pricing_time", "mine")
    scope.set_app("pricing_count", "mine")
    scope.add_time("pricing", 1)
    scope.add_time("pricing", 1)
    event = Composer(Settings(), RedactionPolicy()).request_event(scope)
    keys = [key for key, _ in event.pairs]
    assert sorted(keys) == sorted(set(keys))


def test_functions_do_nothing_outside_a_request() -> None:
    """Tests, shells and management commands need not care."""
    assert current_scope.get() is None
    otel_canonical.set("plan", "pro")
    otel_canonical.add("items", 3)
    assert otel_canonical.get("plan") is None
    assert otel_canonical.get("plan", "default") == "default"
    with otel_canonical.timer("pricing") as running:
        assert isinstance(running, otel_canonical.timer)

    @otel_canonical.timer("pricing")
    def price(n: int) -> int:
        return n + 1

    assert price(1) == 2


def take_10_ms() -> None:
    """Be what is timed: nothing is waited for."""
    threading.Event().wait(0.01)


def test_timer_times_functions(in_process: None) -> None:
    """As a decorator, sync or async, it adds up each call until its result is there."""

    @otel_canonical.timer("sync")
    def work(x: int, *, y: int = 0) -> int:
        """Work."""
        take_10_ms()
        return x + y

    @otel_canonical.timer("async")
    async def work_async(x: int) -> int:
        await asyncio.sleep(0.01)
        return x

    async def view(request: Any) -> HttpResponse:
        assert work(1, y=2) == 3
        assert work(1) == 1
        assert await asyncio.gather(work_async(5), work_async(6), work_async(7)) == [5, 6, 7]
        return HttpResponse()

    event = event_of(view)
    assert event["app_sync_time"] >= 0.02
    assert event["app_sync_count"] == 2
    assert event["app_async_time"] >= 0.03
    assert event["app_async_count"] == 3
    assert (work.__name__, work.__doc__) == ("work", "Work.")


def test_timer_tells_success_from_failure_when_asked(in_process: None) -> None:
    """Runs that raise have a key of their own, and the exception goes on."""

    @otel_canonical.timer("charge", outcome=True)
    def charge(fails: bool) -> None:
        if fails:
            raise ZeroDivisionError

    def view(request: Any) -> HttpResponse:
        charge(False)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                charge(True)
        return HttpResponse()

    event = event_of(view)
    assert {key for key in event if key.startswith("app_")} == {
        "app_charge_success_time",
        "app_charge_failure_time",
        "app_charge_failure_count",
    }


def test_timers_nest(in_process: None) -> None:
    """An outer timer holds the inner one's time; one inside its like counts twice."""
    same = otel_canonical.timer("same")

    def view(request: Any) -> HttpResponse:
        with otel_canonical.timer("outer"), otel_canonical.timer("inner"):
            take_10_ms()
        with same, same:
            take_10_ms()
        return HttpResponse()

    event = event_of(view)
    assert event["app_outer_time"] >= event["app_inner_time"] >= 0.01
    assert (event["app_same_count"], event["app_same_time"] >= 0.02) == (2, True)
    assert "app_outer_count" not in event


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What timers read: nanoseconds, that stand still until a test moves them."""
    now = [0]
    monkeypatch.setattr(app_facts, "time", SimpleNamespace(perf_counter_ns=lambda: now[0]))
    return now


def elapsed_ns(scope: RequestScope) -> dict[str, int]:
    """Return what the timers of a request have measured."""
    return {key: timer.elapsed_ns for key, timer in (scope.timers or {}).items()}


class InThread:
    """A thread that does what it is told, one thing after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)

    def run(self, do: Callable[..., Any], *args: Any) -> Any:
        """Return what that returns."""
        return self._thread.submit(do, *args).result(10)


@pytest.mark.parametrize("place", [InThread, contextvars.Context])
def test_shared_timer_is_right_when_requests_overlap(
    place: Callable[[], InThread | contextvars.Context], clock: list[int]
) -> None:
    """In threads, and in contexts, which is what greenlets and tasks have."""
    pricing = otel_canonical.timer("pricing")
    scopes, places = [RequestScope("GET", "/", {}) for _ in range(2)], [place(), place()]

    def begin(n: int, at_ns: int) -> None:
        clock[0] = at_ns
        places[n].run(pricing.__enter__)

    def end(n: int, at_ns: int) -> None:
        clock[0] = at_ns
        places[n].run(pricing.__exit__, None, None, None)

    for n, scope in enumerate(scopes):
        places[n].run(current_scope.set, scope)
    begin(0, 0)
    begin(1, 1000)
    begin(1, 1100)
    end(0, 1200)
    end(1, 1300)
    end(1, 1400)
    assert [elapsed_ns(scope) for scope in scopes] == [{"pricing": 1200}, {"pricing": 600}]


def test_shared_timer_is_right_when_tasks_take_turns(clock: list[int]) -> None:
    """Each is timed from its own beginning, one that failed as well."""
    pricing = otel_canonical.timer("pricing", outcome=True)
    scope = RequestScope("GET", "/", {})

    async def price(began: asyncio.Event, goes_on: asyncio.Event, *, fails: bool) -> None:
        with contextlib.suppress(ValueError), pricing:
            began.set()
            await goes_on.wait()
            if fails:
                raise ValueError

    async def serve() -> None:
        current_scope.set(scope)
        tasks, goes_on = [], []
        for fails in (True, False):
            began, go_on = asyncio.Event(), asyncio.Event()
            tasks.append(asyncio.create_task(price(began, go_on, fails=fails)))
            goes_on.append(go_on)
            await asyncio.wait_for(began.wait(), 10)
            clock[0] += 1000
        for task, go_on in zip(tasks, goes_on, strict=True):
            go_on.set()
            await asyncio.wait_for(task, 10)
            clock[0] += 10

    asyncio.run(serve())
    assert elapsed_ns(scope) == {"pricing_failure": 2000, "pricing_success": 1010}


def test_timers_are_right_when_generators_take_turns(clock: list[int]) -> None:
    """Runs of one thread that don't end in the order in which they began."""

    def timed(key: str) -> Iterator[None]:
        with otel_canonical.timer(key):
            yield

    def serve() -> None:
        current_scope.set(scope)
        first, second = timed("first"), timed("second")
        for running in (first, second):
            next(running)
            clock[0] += 1000
        for running in (first, second):
            assert next(running, "over") == "over"
            clock[0] += 10

    scope = RequestScope("GET", "/", {})
    context = contextvars.Context()
    context.run(serve)
    assert elapsed_ns(scope) == {"first": 2000, "second": 1010}
    # Nothing is left of them where a thread lives on.
    assert context.get(app_facts._runs) is None


def test_timer_counts_in_threads_of_the_request(in_process: None) -> None:
    """What runs in a thread that carries the request's context belongs to the request."""

    def work() -> None:
        with otel_canonical.timer("work"):
            take_10_ms()

    def view(request: Any) -> HttpResponse:
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return HttpResponse()

    event = event_of(view)
    assert (event["app_work_count"], event["app_work_time"] >= 0.04) == (4, True)


# Failures that the app survives.


def test_partial_failure_has_own_line_at_once(site: Server, tmp_path: Path) -> None:
    """Its line is there while the request still runs, joined to the request's by ids."""
    until = tmp_path / "seen"
    request = threading.Thread(
        target=site.get,
        args=(f"/partial-then-waits/?until={until}",),
        kwargs={"X_Request_ID": "part"},
    )
    request.start()
    try:
        [failure] = eventually(
            lambda: [line for line in site.lines() if line["req_id"] == "part"], site.report
        )
    finally:
        until.touch()
        request.join()
    eventually(lambda: len(_lines_of(site, "part")) == 2, site.report)
    [_, line] = _lines_of(site, "part")
    assert (failure["event_type"], line["event_type"]) == ("partial_failure", "request")
    assert failure["trace_id"] == line["trace_id"]
    assert (failure["exc_type"], failure["exc_msg"]) == ("Error", "Oh noes!")
    assert re.fullmatch(r"every_kind\.py:\d+:will_throw", failure["exc_loc"])
    assert re.fullmatch(r"every_kind\.py:\d+:raise_deep", failure["exc_cause_loc"])
    assert line["resp_status"] == "200"
    assert "exc_type" not in line


def _lines_of(server: Server, request_id: str) -> list[Line]:
    return [line for line in server.lines() if line["req_id"] == request_id]


def test_default_is_not_shared_when_partial_failures_repeat(site: Server) -> None:
    """What a caller does to one answer isn't in the next, and each failure has its line."""
    answer = site.get("/partial/", X_Request_ID="twice")
    assert json.loads(answer.body) == {"second": []}
    eventually(lambda: len(_lines_of(site, "twice")) == 3, site.report)
    assert [line["event_type"] for line in _lines_of(site, "twice")] == [
        "partial_failure",
        "partial_failure",
        "request",
    ]


def test_partial_failure_survives_async_functions(site: Server) -> None:
    """A coroutine function is awaited, then survived."""
    answer = site.get("/async-partial/", X_Request_ID="async-part")
    assert (answer.status, answer.body) == (200, b"degraded")
    eventually(lambda: len(_lines_of(site, "async-part")) == 2, site.report)
    assert _lines_of(site, "async-part")[0]["exc_msg"] == "Oh noes!"


@pytest.mark.parametrize("path", ["/partial/", "/async-partial/"])
def test_partial_failure_is_raised_under_debug(debug_site: Server, path: str) -> None:
    """While developing, a failure is seen: one line, of a request that failed."""
    answer, line = debug_site.ask(path)
    assert (answer.status, line["resp_status"]) == (500, "500")
    assert (line["event_type"], line["exc_type"]) == ("request", "Error")


def test_partial_failure_is_logged_outside_a_request(
    caplog: pytest.LogCaptureFixture, in_process: None
) -> None:
    """In a command or a test it returns its default and says so to Python's logging."""

    @otel_canonical.partial_failure(return_value={"items": []})
    def fetch() -> dict[str, list[int]]:
        raise ConnectionError("no route")

    with caplog.at_level(logging.WARNING, logger="otel_canonical.app_facts"):
        first = fetch()
        first["items"].append(1)
        assert fetch() == {"items": []}
    assert len(caplog.records) == 2
    assert "fetch failed and was survived" in caplog.text
    assert "no route" in caplog.text


def test_partial_failure_lets_success_and_exit_through(in_process: None) -> None:
    """What succeeds is returned as it is; what ends the process is no failure of the app's."""

    @otel_canonical.partial_failure(return_value="default")
    def leaves(how: type[BaseException] | None) -> object:
        if how is not None:
            raise how
        return "fine"

    def view(request: Any) -> HttpResponse:
        with pytest.raises(KeyboardInterrupt):
            leaves(KeyboardInterrupt)
        return HttpResponse(leaves(None))

    [event] = events_of(view)
    assert event["event_type"] == "request"


def test_partial_failures_message_is_redacted(in_process: None) -> None:
    """The same policy as on the request's own line."""

    @otel_canonical.partial_failure()
    def fetch() -> None:
        raise ValueError("no login with password=hunter2")

    def view(request: Any) -> HttpResponse:
        assert fetch() is None
        return HttpResponse()

    failure, _ = events_of(view)
    assert failure["event_type"] == "partial_failure"
    assert "hunter2" not in failure["exc_msg"]


# Callbacks.


def test_enrichers_add_keys_from_request_and_response(enrichers: None, in_process: None) -> None:
    """Each is called once, with Django's own two objects, when the event is made."""
    seen: list[tuple[str, int]] = []

    @otel_canonical.enrich
    def first(request: Any, response: Any) -> dict[str, object]:
        seen.append((request.path, response.status_code))
        return {"tenant": "acme", "left_out": None}

    @otel_canonical.enrich
    def second(request: Any, response: Any) -> None:
        otel_canonical.set("from_set", 1)

    otel_canonical.enrich(first)
    event = event_of(lambda request: HttpResponse(status=201))
    assert seen == [("/view/", 201)]
    assert (event["app_tenant"], event["app_from_set"]) == ("acme", 1)
    assert "app_left_out" not in event


def test_line_stays_when_enricher_raises(
    enrichers: None, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback that fails costs its own facts, not the next one's, and never the event."""
    reports: list[str] = []
    monkeypatch.setenv("OTEL_CANONICAL_STRICT", "0")
    monkeypatch.setattr(
        "otel_canonical.internal_errors.report", lambda doing, error: reports.append(doing)
    )

    @otel_canonical.enrich
    def broken(request: Any, response: Any) -> dict[str, object]:
        raise ZeroDivisionError

    @otel_canonical.enrich
    def no_mapping(request: Any, response: Any) -> Any:
        return 7

    @otel_canonical.enrich
    def fine(request: Any, response: Any) -> dict[str, object]:
        return {"fine": True}

    event = event_of(lambda request: HttpResponse())
    assert (event["resp_status"], event["app_fine"]) == (200, True)
    assert len(reports) == 2
    assert "broken" in reports[0]


def test_enrichers_get_none_when_django_never_saw_request(enrichers: None) -> None:
    """A request that WSGI middleware answered is enriched, too."""
    seen: list[object] = []

    @otel_canonical.enrich
    def note(request: Any, response: Any) -> dict[str, object]:
        seen.append((request, response))
        return {"noted": True}

    scope = RequestScope("GET", "/", {})
    app_facts.read_enrichers(scope)
    assert seen == [(None, None)]
    assert scope.app == {"noted": True}


# Tests of our users.


def test_captured_events_are_apart_when_requests_are_many(in_process: None) -> None:
    """One event per request, in order; nothing of one is in another; none after the block."""
    names = iter(["first", "second"])

    def view(request: Any) -> HttpResponse:
        otel_canonical.set(next(names), True)
        return HttpResponse()

    with override_settings(ROOT_URLCONF=(path("view/", view),), ALLOWED_HOSTS=["testserver"]):
        with capture_events() as events:
            client = Client()
            client.get("/view/", headers={"x-request-id": "a"})
            client.get("/nowhere/", headers={"x-request-id": "b"})
            client.get("/view/", headers={"x-request-id": "c"})
        client.get("/nowhere/")
    assert [(event["req_id"], event["resp_status"]) for event in events] == [
        ("a", 200),
        ("b", 404),
        ("c", 200),
    ]
    assert [[key for key in event if key.startswith("app_")] for event in events] == [
        ["app_first"],
        [],
        ["app_second"],
    ]
    assert current_scope.get() is None


def test_error_is_on_captured_event_when_client_raises(in_process: None) -> None:
    """Django's client raises what the view raised; the event is there by then."""

    def view(request: Any) -> None:
        raise ZeroDivisionError("by nothing")

    with (
        override_settings(ROOT_URLCONF=(path("view/", view),)),
        capture_events() as events,
        pytest.raises(ZeroDivisionError),
    ):
        Client(headers={"host": "localhost"}).get("/view/")
    [event] = events
    assert (event["resp_status"], event["exc_type"]) == (500, "ZeroDivisionError")
    assert event["exc_msg"] == "by nothing"


def test_line_has_ids_and_status_when_event_cannot_be_composed(
    in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours costs facts, not the line; the next request is whole again."""
    monkeypatch.setenv("OTEL_CANONICAL_STRICT", "0")

    def fail(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    with monkeypatch.context() as broken:
        broken.setattr("otel_canonical.request.composer.Composer._request", fail)
        with capture_events() as events:
            Client().get("/ok/", HTTP_HOST="localhost")
    assert list(events[0])[:3] == ["event_type", "ts", "req_id"]
    assert events[0]["resp_status"] == 200
    with capture_events() as events:
        Client().get("/ok/", HTTP_HOST="localhost")
    assert events[0]["req_path"] == "/ok/"
