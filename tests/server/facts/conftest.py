"""Servers that the tests of this directory share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import Server, gunicorn


@pytest.fixture(scope="module")
def debug_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same site under Django's DEBUG."""
    directory = tmp_path_factory.mktemp("debug")
    with gunicorn("every_kind", directory, SITE_DIRECTORY=str(directory), SITE_DEBUG="1") as server:
        yield server


@pytest.fixture(params=["site", "debug_site"])
def either(request: pytest.FixtureRequest, site: Server, debug_site: Server) -> Server:
    """A site in production, and one under DEBUG."""
    return site if request.param == "site" else debug_site
