"""Requests to a view in this process, through Django's test client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.test import Client, override_settings
from django.urls import path

from otel_canonical.testing import capture_events
from tests.support.event_checks import check_event

View = Callable[..., Any]
Event = dict[str, Any]


def events_of(view: View, client: Client | None = None, **settings: Any) -> list[Event]:
    """Return the events of one request that `view` serves."""
    settings = {"ROOT_URLCONF": (path("view/", view),), "ALLOWED_HOSTS": ["testserver"], **settings}
    with override_settings(**settings), capture_events() as events:
        (client or Client(raise_request_exception=False)).get("/view/")
    for event in events:
        check_event(event.items())
    return events


def event_of(view: View, client: Client | None = None, **settings: Any) -> Event:
    """Return the one event of one request that `view` serves."""
    [event] = events_of(view, client, **settings)
    return event


def take_10_ms() -> None:
    """Be what is timed: nothing is waited for."""
    threading.Event().wait(0.01)
