"""Settings for every test: errors of ours fail the test, and tests that share a server stay in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import Databases
from tests.support.databases import databases as start_databases

# Inherited by every server that a test starts; an error of ours fails the request, so the test.
os.environ["OTEL_CANONICAL_STRICT"] = "1"

UNIT = Path(__file__).parent / "unit"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of pytest-xdist: name the groups and the order (README.md, "Side by side")."""
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        group = group_of(item)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
    # Long tests first. Within each half the order stays the random one.
    items.sort(key=lambda item: UNIT in item.path.parents)


def group_of(item: pytest.Item) -> str:
    """Return a name for the servers that a test shares with others of its module, empty if none.

    A fixture of a wider scope than the test is such a server; one with parameters is one for each.
    """
    fixtures = item._fixtureinfo.name2fixturedefs  # pytest has no public name for it
    shared = sorted(name for name, found in fixtures.items() if found[-1].scope == "module")
    if not shared:
        return ""
    callspec = getattr(item, "callspec", None)
    parameters = callspec.indices if callspec is not None else {}
    chosen = [f"{name}{parameters[name]}" for name in shared if name in parameters]
    return "-".join([item.nodeid.partition("::")[0], *chosen])


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """A PostgreSQL and a MariaDB for all tests of this process, started by the first that needs one."""
    with start_databases() as started:
        yield started
