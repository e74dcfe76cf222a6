"""`set`, `add`, `partial_failure` and `enrich`: what the app says of its request."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpResponse

import otel_canonical
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.request import app_facts
from otel_canonical.request.composer import Composer
from otel_canonical.request.scope import RequestScope, current_scope
from otel_canonical.settings import Settings
from tests.support.in_process import event_of, events_of


@pytest.fixture
def enrichers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(app_facts, "_enrichers", [])


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


def test_keys_that_a_line_shows_alike_are_one_key(in_process: None) -> None:
    """The later value is shown, once."""

    def view(request: Any) -> HttpResponse:
        otel_canonical.set("a b", 1)
        otel_canonical.set("a=b", 2)
        otel_canonical.add("n 1")
        otel_canonical.add("n-1")
        assert otel_canonical.get("a-b") == 2
        otel_canonical.set("", 3)
        otel_canonical.set(0, 4)  # type: ignore[arg-type]
        return HttpResponse()

    event = event_of(view)
    shown = {key: event[key] for key in event if key.startswith("app_")}
    assert shown == {"app_a_b": 2, "app_n_1": 2, "app_": 3, "app_0": 4}


@pytest.mark.parametrize(
    ("settings", "is_raised"),
    [
        (SimpleNamespace(configured=True, DEBUG=True), True),
        (SimpleNamespace(configured=True, DEBUG=False), False),
        (SimpleNamespace(configured=False), False),
        (None, False),
    ],
)
def test_failure_is_raised_while_developing(
    settings: object, is_raised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under DEBUG; survived where Django is not configured, or is not there."""
    django_conf = SimpleNamespace(settings=settings) if settings is not None else None
    monkeypatch.setitem(sys.modules, "django.conf", django_conf)  # type: ignore[arg-type]

    @app_facts.partial_failure(return_value="instead")
    def fails() -> str:
        raise ValueError("no")

    if is_raised:
        with pytest.raises(ValueError, match="no"):
            fails()
    else:
        assert fails() == "instead"
