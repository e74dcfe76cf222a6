"""Captures events in users' own tests: those of requests sent through Django's test client, as dicts.

No Gunicorn is needed and no line is written. An event begins when Django sees the request and ends
with Django's response, so a streamed body isn't part of it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from otel_canonical.django import setup as django_setup
from otel_canonical.event import logfmt
from otel_canonical.event.event import CanonicalEvent
from otel_canonical.event.fields import FieldValue
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.process import identity as process_identity
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.progress import Outputs
from otel_canonical.settings import Settings

_one_at_a_time = threading.RLock()  # guards `handler.openers`


@contextmanager
def capture_events() -> Iterator[list[dict[str, FieldValue]]]:
    """Collect the event of every request that Django's test client sends inside the block.

    Example::

        with otel_canonical.testing.capture_events() as events:
            client.get("/pricing/")
        assert events[0]["app_plan"] == "pro"

    Yields:
        The list that fills with events, each a dict of the line's keys, in the order they were made.
    """
    from otel_canonical.django import cache, handler

    events: list[dict[str, FieldValue]] = []

    def collect(event: CanonicalEvent, line: bytes, slot: object) -> None:
        events.append(dict(event.pairs))

    # A test runner that works side by side forks.
    process_identity.claim()
    outputs = Outputs(lambda event: b"", collect)
    log = CanonicalLog(Settings(), RootFactory(None, str), outputs)

    @contextmanager
    def opened(request: Any) -> Iterator[None]:
        method, path = logfmt.as_text(request.method or ""), logfmt.as_text(request.path)
        scope = log.open(method, path, _headers(request))
        if scope is None:
            yield
            return
        scope.query_string = logfmt.as_text(request.META.get("QUERY_STRING", ""))
        try:
            yield
        finally:
            response = scope.django_response
            if response is not None:
                scope.status = response.status_code
            log.close(scope)

    django_setup.watch(with_spans=False)
    django_setup.before_middleware(with_spans=False)
    cache.watch_caches(importlib.import_module("django.core.cache").caches)
    with _one_at_a_time:
        handler.openers.append(opened)
    try:
        yield events
    finally:
        with _one_at_a_time:
            handler.openers.remove(opened)


def _headers(request: Any) -> dict[str, str]:
    # A test client passes on whatever it is given: `client.post("/", CONTENT_LENGTH=7)`.
    return {name.upper(): logfmt.as_text(value) for name, value in request.headers.items()}
