"""Sites under each worker class, by the class's name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, gunicorn

CLASSES = {
    "gthread": ["-k", "gthread", "--threads", "8"],
    "gevent": ["-k", "gevent"],
    "gevent_pywsgi": ["-k", "gunicorn.workers.ggevent.GeventPyWSGIWorker"],
    "asgi": ["-k", "asgi"],
    "uvicorn": ["-k", "uvicorn_worker.UvicornWorker"],
}

ASGI = ("asgi", "uvicorn")
GEVENT = ("gevent", "gevent_pywsgi")


@contextlib.contextmanager
def site_of(name: str, directory: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """Start a worker of a class."""
    if name in GEVENT:
        pytest.importorskip("gevent", reason="pip install gevent")
    if name == "uvicorn":
        pytest.importorskip("uvicorn_worker", reason="pip install uvicorn-worker")
    app = "any_class:asgi" if name in ASGI else "any_class:application"
    more = {"SITE_DIRECTORY": str(directory), **environment}
    with gunicorn(app, directory, *CLASSES[name], *arguments, **more) as server:
        server.name = name
        yield server


def views(site: Server, *names: str) -> list[str]:
    """Return views by their names and, under ASGI, the async ones too."""
    return [*names, *(f"async_{name}" for name in names if site.name in ASGI)]
