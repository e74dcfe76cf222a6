"""The demo shop, its database filled once and copied for each server."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import django

from tests.support.environments import clean_environment
from tests.support.peers.tools import built_once
from tests.support.servers import DEMO, Server, gunicorn

NAME = "demo.sqlite3"


def shop_database(directory: Path) -> Path:
    """Return the path of a filled database in this directory."""
    path = directory / NAME
    if not path.exists():
        path.write_bytes(_filled_database())
    return path


def _filled_database() -> bytes:
    """Return a database that the demo's commands have filled, once for each state of their code."""

    def build(directory: Path) -> None:
        for command in ("migrate", "seed_catalog"):
            subprocess.run(
                [sys.executable, str(DEMO / "manage.py"), command, "--verbosity=0"],
                # Not our own: other tests may have named their site's settings there.
                env=clean_environment(directory, {"DEMO_DATABASE": str(directory / NAME)}),
                check=True,
            )

    sources = [*sorted((DEMO / "catalog").rglob("*.py")), DEMO / "demo_shop" / "settings.py"]
    return (built_once(f"demo-shop-{django.__version__}", sources, build) / NAME).read_bytes()


@contextlib.contextmanager
def shop(directory: Path, *arguments: str, **settings: str) -> Iterator[Server]:
    """Start the demo shop with a database of its own."""
    database = {"DEMO_DATABASE": str(shop_database(directory))}
    with gunicorn(
        "demo_shop.wsgi", directory, *arguments, cwd=DEMO, **database, **settings
    ) as server:
        yield server
