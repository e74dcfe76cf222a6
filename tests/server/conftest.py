"""The server that most tests ask, and a service that servers call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.neighbour import Neighbour, running_neighbour
from tests.support.servers import Server, gunicorn


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One sync worker that serves `programs/every_kind.py`, nothing set but defaults."""
    directory: Path = tmp_path_factory.mktemp("site")
    with gunicorn("every_kind", directory, SITE_DIRECTORY=str(directory)) as server:
        yield server


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    """Another HTTP service."""
    with running_neighbour() as found:
        yield found
