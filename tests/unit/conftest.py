"""A Django site in the test's own process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.otel.root_span import SCOPE_KEY
from otel_canonical.request.composer import Composer
from tests.support.event_checks import faults_of
from tests.support.servers import PROGRAMS


@pytest.fixture(autouse=True)
def events_are_well_formed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold every event that is composed in a test against the registry of fields."""
    wrong: list[str] = []

    def checked(compose: Callable[..., CanonicalEvent]) -> Callable[..., CanonicalEvent]:
        def compose_and_check(*arguments: Any) -> CanonicalEvent:
            event = compose(*arguments)
            wrong.extend(faults_of(event.pairs))
            return event

        return compose_and_check

    for name in ("request_event", "least_event", "partial_failure_event"):
        monkeypatch.setattr(Composer, name, checked(getattr(Composer, name)))
    yield
    assert not wrong, wrong


@pytest.fixture(autouse=True)
def no_request_is_left_open() -> Iterator[None]:
    """Fail a test behind which a request is current, or an exception: tests after it would be inside of it."""
    yield
    assert sys.exc_info()[1] is None
    left = otel_context.get_value(SCOPE_KEY)
    if left is not None:
        otel_context.attach(otel_context.Context())  # so that it fails once, and not from here on
    assert left is None


@pytest.fixture(scope="session")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The site `every_kind` in this process, for Django's test client; its tables are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROGRAMS)
        patch.setenv("SITE_DIRECTORY", str(tmp_path_factory.mktemp("in_process")))
        patch.setenv("DJANGO_SETTINGS_MODULE", "every_kind")
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        for alias in connections:
            call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
        yield
        connections.close_all()
