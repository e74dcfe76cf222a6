"""Operations of django-ninja: how they are called, and the exceptions that its handlers answer."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import path

from otel_canonical.testing import capture_events
from tests.support.event_checks import check_event

MODULE, FILE = "tests.support.ninja_apis", "tests/support/ninja_apis.py"


@pytest.fixture
def apis(in_process: None) -> Any:
    """The module of the APIs, which can be imported now."""
    from tests.support import ninja_apis

    return ninja_apis


def event_of(api: Any, url: str, method: str = "get") -> dict[str, Any]:
    """Return the event of one request to an API below `/api/`."""
    urls = (path("api/", api.urls),)
    with (
        override_settings(ROOT_URLCONF=urls, ALLOWED_HOSTS=["testserver"]),
        capture_events() as events,
    ):
        getattr(Client(raise_request_exception=False), method)(f"/api/{url}")
    [event] = events
    check_event(event.items())
    return event


@pytest.mark.parametrize(
    ("method", "url", "function", "route", "status"),
    [
        ("get", "orders", "list_orders", "api/orders", 200),
        ("post", "orders", "make_order", "api/orders", 200),
        ("get", "of/7/lines", "lines_of", "api/of/<int:number>/lines", 200),
        ("get", "of/slow/x", "wait_for", "api/of/slow/<word>", 200),
        ("put", "orders/7", "change", "api/orders/<number>", 200),
        ("patch", "orders/7", "change", "api/orders/<number>", 200),
        ("put", "orders/seven", "change", "api/orders/<number>", 422),
        ("get", "kept", "keep", "api/kept", 200),
        ("get", "secret", "secret", "api/secret", 401),
    ],
)
def test_operation_has_its_view_and_route(
    apis: Any, method: str, url: str, function: str, route: str, status: int
) -> None:
    """Also when it is asynchronous, in a router, for several methods, decorated, or was never called."""
    event = event_of(apis.shop(), url, method)
    names = (event["resp_view"], event["req_route"], event["resp_status"])
    assert names == (f"{MODULE}.{function}", route, status)


def test_method_that_no_operation_has_is_named_by_the_path(apis: Any) -> None:
    """A 405 is of no operation."""
    event = event_of(apis.shop(), "orders", "delete")
    assert (event["req_route"], event["resp_status"]) == ("api/orders", 405)
    assert "exc_type" not in event


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("error", "answer", "status", "shown"),
    [
        ("own", 503, 503, "Unavailable"),
        ("own", 409, 409, None),
        ("own", None, 500, "Unavailable"),
        ("own", OSError("handler"), 500, "OSError"),
        ("bad gateway", None, 502, "HttpError"),
        ("not found", None, 404, None),
        ("Django's", None, 404, None),
        ("bug", 503, 500, "ValueError"),
    ],
)
def test_exception_is_shown_when_the_client_got_a_5xx(
    apis: Any, error: str, answer: Any, status: int, shown: str | None, is_async: bool
) -> None:
    """Whoever has answered: ninja's handlers, the API's own, Django. One answered with less is no failure."""
    event = event_of(apis.failing(error, answer, is_async=is_async), "fails")
    name = event.get("exc_type")
    assert (event["resp_status"], name and name.rpartition(".")[2]) == (status, shown)
    if shown is not None:
        place = "unavailable" if shown == "OSError" else "fails_async" if is_async else "fails"
        assert event["exc_loc"].startswith(f"{FILE}:"), event
        assert place in (event["exc_loc"] + event["exc_cause_loc"]), event


def test_exception_of_authentication_is_shown(apis: Any) -> None:
    """The operation was never called."""
    event = event_of(apis.shop(), "secret?key=broken")
    assert (event["resp_status"], event["exc_msg"]) == (503, "key store")
    assert event["exc_loc"].endswith(":authenticate")
