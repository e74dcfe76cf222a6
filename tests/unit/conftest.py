"""A Django site in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import PROGRAMS


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
            call_command("migrate", database=alias, verbosity=0)
        yield
        connections.close_all()
