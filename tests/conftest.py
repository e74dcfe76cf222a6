"""Strictness for everything that the tests start, and the one server that most of them ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import Databases
from tests.support.databases import databases as start_databases
from tests.support.servers import Server, gunicorn

# Inherited by every server that a test starts; an error of ours fails the request, so the test.
os.environ["OTEL_CANONICAL_STRICT"] = "1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One sync worker that serves `programs/every_kind.py`, nothing set but defaults."""
    directory: Path = tmp_path_factory.mktemp("site")
    with gunicorn("every_kind", directory, SITE_DIRECTORY=str(directory)) as server:
        yield server


@pytest.fixture(scope="session")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same site in this process, for Django's test client; its tables are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SITE_DIRECTORY", str(tmp_path_factory.mktemp("in_process")))
        patch.setenv("DJANGO_SETTINGS_MODULE", "tests.server.programs.every_kind")
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        for alias in connections:
            call_command("migrate", database=alias, verbosity=0)
        yield
        connections.close_all()


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """A PostgreSQL and a MariaDB for all tests, started by the first that needs one."""
    with start_databases() as started:
        yield started
