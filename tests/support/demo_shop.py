"""The demo shop under a real Gunicorn."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import DEMO, Server, clean_environment, gunicorn


@contextlib.contextmanager
def shop(directory: Path, *arguments: str, **settings: str) -> Iterator[Server]:
    """Start the demo shop with a database of its own, made anew if it isn't there yet."""
    file = directory / "demo.sqlite3"
    database = {"DEMO_DATABASE": str(file)}
    for command in () if file.exists() else ("migrate", "seed_catalog"):
        subprocess.run(
            [sys.executable, str(DEMO / "manage.py"), command, "--verbosity=0"],
            env=clean_environment(directory, database),
            check=True,
        )
    with gunicorn(
        "demo_shop.wsgi", directory, *arguments, cwd=DEMO, **database, **settings
    ) as server:
        yield server
