"""The demo shop, its database filled once and copied for each server."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import DEMO, Server, clean_environment, gunicorn


def shop_database(directory: Path) -> Path:
    """Return the path of a filled database in this directory."""
    path = directory / "demo.sqlite3"
    if not path.exists():
        path.write_bytes(_filled_database())
    return path


@functools.cache
def _filled_database() -> bytes:
    directory = Path(tempfile.mkdtemp(prefix="demo-shop-"))
    try:
        path = directory / "demo.sqlite3"
        for command in ("migrate", "seed_catalog"):
            subprocess.run(
                [sys.executable, str(DEMO / "manage.py"), command, "--verbosity=0"],
                # Not our own: other tests may have named their site's settings there.
                env=clean_environment(directory, {"DEMO_DATABASE": str(path)}),
                check=True,
            )
        return path.read_bytes()
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def shop(directory: Path, *arguments: str, **settings: str) -> Iterator[Server]:
    """Start the demo shop with a database of its own."""
    database = {"DEMO_DATABASE": str(shop_database(directory))}
    with gunicorn(
        "demo_shop.wsgi", directory, *arguments, cwd=DEMO, **database, **settings
    ) as server:
        yield server
