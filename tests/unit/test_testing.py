"""`capture_events`, for the tests of our users."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path

import otel_canonical
from otel_canonical.request.scope import current_scope
from otel_canonical.testing import capture_events


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
        broken.setattr("otel_canonical.request.first_facts.FirstFacts.read", fail)
        with capture_events() as events:
            Client().get("/ok/", HTTP_HOST="localhost")
    assert list(events[0]) == ["ts", "event_type", "resp_status", "req_id"]
    assert events[0]["resp_status"] == 200
    with capture_events() as events:
        Client().get("/ok/", HTTP_HOST="localhost")
    assert events[0]["req_path"] == "/ok/"


def test_headers_are_texts_whatever_a_test_passes(in_process: None) -> None:
    """Django's own tests pass numbers."""
    with (
        override_settings(ROOT_URLCONF=(), ALLOWED_HOSTS=["testserver"]),
        capture_events() as events,
    ):
        Client().post("/nowhere/", CONTENT_LENGTH=0, HTTP_X_REQUEST_ID=7, HTTP_REFERER=8)
    [event] = events
    assert (event["req_id"], event["req_bytes"], event["req_referrer"]) == ("7", 0, "8")
