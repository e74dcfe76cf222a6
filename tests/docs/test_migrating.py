"""docs/MIGRATING.md: the example of an instrumenter works in the ancestor, and its counterpart here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.documents import marked, start_project
from tests.support.peers.packages import installed_aside
from tests.support.servers import GUNICORN, eventually, gunicorn

DOCUMENT = "docs/MIGRATING.md"
#: In front of both examples.
TENANTS = 'def load_tenants():\n    return {"localhost": "acme"}\n\n\n'
#: It imports the example itself: `setup` is called after the fork, when no view is imported yet.
ANCESTOR = """\
import facts
from gunicorn_django_canonical_logs.glogging import Logger
from gunicorn_django_canonical_logs.gunicorn_hooks import *

accesslog = "-"
logger_class = Logger
"""


@pytest.fixture(name="site")
def site_directory(tmp_path: Path) -> Path:
    """A fresh project whose URLs import a module `facts`, as the application must."""
    start_project(tmp_path)
    urls = tmp_path / "mysite" / "urls.py"
    urls.write_text(f"import facts\n{urls.read_text()}")
    return tmp_path


def test_example_works_in_ancestor(site: Path) -> None:
    """Its line has the fact that the example sets."""
    (site / "facts.py").write_text(TENANTS + marked(DOCUMENT, "there"))
    (site / "ancestor.py").write_text(ANCESTOR)
    with gunicorn(
        "mysite.wsgi",
        site,
        *("-c", "ancestor.py"),
        command=GUNICORN,
        cwd=site,
        PYTHONPATH=str(installed_aside("ancestor")),
        DJANGO_SETTINGS_MODULE="mysite.settings",
    ) as server:
        assert server.get("/").status == 200
        said = eventually(
            lambda: server.stdout.read_text() if "event_type" in server.stdout.read_text() else "",
            server.report,
        )
    assert 'app_tenant="acme"' in said


def test_counterpart_works_here(site: Path) -> None:
    """Our line has the same."""
    (site / "facts.py").write_text(TENANTS + marked(DOCUMENT, "here"))
    with gunicorn("mysite.wsgi", site, cwd=site) as server:
        _, line = server.ask("/")
    assert line["app_tenant"] == "acme"
