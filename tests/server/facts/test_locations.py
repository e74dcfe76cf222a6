"""Where a stuck request is: by real stacks of every way to start and every worker class."""

from __future__ import annotations

import contextlib
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.environments import INSTRUMENT
from tests.support.raw_requests import begin, leave
from tests.support.servers import GUNICORN, Line, Server, eventually, gunicorn
from tests.support.ways_to_start import with_hooks_file

MODULE = """
import time, os
from django.http import HttpResponse

def {name}(request):
    deadline = time.monotonic() + 25
    while not os.path.exists(request.GET["for"]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return HttpResponse("done")
"""

SCRIPT = [str(Path(sys.executable).parent / "gunicorn")]

#: By name: the command, Gunicorn's arguments, the application.
WAYS: dict[str, tuple[list[str], tuple[str, ...], str]] = {
    "gunicorn": (SCRIPT, (), "application"),
    "python -m gunicorn": ([sys.executable, "-m", "gunicorn"], (), "application"),
    "opentelemetry-instrument": ([*INSTRUMENT, *GUNICORN], (), "application"),
    "preload": ([*INSTRUMENT, *GUNICORN], ("--preload",), "application"),
    "gthread": ([*INSTRUMENT, *GUNICORN], ("-k", "gthread"), "application"),
    "gevent": ([*INSTRUMENT, *GUNICORN], ("-k", "gevent"), "application"),
    "asgi": ([*INSTRUMENT, *GUNICORN], ("-k", "asgi"), "asgi"),
    "uvicorn": ([*INSTRUMENT, *GUNICORN], ("-k", "uvicorn_worker.UvicornWorker"), "asgi"),
}
ASGI = ("asgi", "uvicorn")

#: By path: function of `slow_loc`, with the beginning of its file; and of `slow_cause_loc`.
PLACES = {
    "function": ("located.py:function", "located.py:wait_for"),
    "decorated": ("located.py:decorated", "located.py:wait_for"),
    "partial": ("located.py:with_argument", "located.py:wait_for"),
    "page": ("located.py:get", "located.py:wait_for"),
    "tag": ("located.py:tag", "located.py:wait_for"),
    "zipped": ("zipped.py:zipped", None),
    "packaged": ("packaged.py:packaged", None),
}
#: Under WSGI only: a server that runs a sync body or view elsewhere has its frames in a thread.
SYNC_PLACES = {"generator": ("located.py:body", "located.py:wait_for")}
ASYNC_PLACES = {"awaits": ("located.py:awaits", None), "in_thread": ("located.py:in_thread", None)}


@pytest.fixture(scope="module", params=list(WAYS))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One worker, started and served in one of the ways; requests over 0.2 s are slow."""
    directory = tmp_path_factory.mktemp("located")
    command, arguments, application = WAYS[request.param]
    if command[0] != INSTRUMENT[0]:
        arguments = (*arguments, *with_hooks_file(directory))
    with zipfile.ZipFile(directory / "shop.zip", "w") as archive:
        archive.writestr("zipped.py", MODULE.format(name="zipped"))
    packages = directory / "site-packages"
    packages.mkdir()
    (packages / "packaged.py").write_text(MODULE.format(name="packaged"))
    with gunicorn(
        f"located:{application}",
        directory,
        *arguments,
        command=command,
        OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.2",
        OTEL_PYTHON_CANONICAL_SLOW_INTERVAL_SECONDS="1",
        PYTHONPATH=f"{directory / 'shop.zip'}:{packages}",
    ) as server:
        server.name = request.param
        yield server


def slow_line(
    site: Server,
    name: str,
    gate: Path,
    rest: bytes = b"",
    is_there: Callable[[Line], bool] = lambda line: True,
) -> Line:
    """Return a `slow` line of a request that is stuck, and let it go.

    Args:
        site: what is asked.
        name: of the view.
        gate: the file for which it waits.
        rest: of the request, sent when it may go.
        is_there: whether a line is the one that is waited for. On a busy machine the first one may be
            written before the view begins.
    """
    request_id = f"{name}-{len(site.lines())}"
    connection = begin(site, f"/{name}/?for={gate}", request_id)

    def probe() -> Line | None:
        lines = (line for line in site.lines() if line["req_id"] == request_id)
        slow = (line for line in lines if line["event_type"] == "slow")
        return next(filter(is_there, slow), None)

    try:
        return eventually(probe, lambda: f"no slow line of {name}\n{site.report()}")
    finally:
        gate.touch()
        if rest:
            with contextlib.suppress(OSError):
                connection.sendall(rest)
            while connection.recv(65536):
                pass
        leave(connection)


def shown(location: str | None) -> str | None:
    """Return a location without its line."""
    if location is None or location.count(":") != 2:
        return location
    file, _, function = location.split(":")
    return f"{file}:{function}"


def test_stuck_request_is_named_by_its_view(site: Server, tmp_path: Path) -> None:
    """Whatever wraps the view, wherever its code is, and whatever has started the server."""
    places = {**PLACES, **(ASYNC_PLACES if site.name in ASGI else SYNC_PLACES)}
    for name, (place, cause) in places.items():

        def is_there(line: Line, place: str = place, cause: str | None = cause) -> bool:
            if cause is not None and shown(line.get("slow_cause_loc")) != cause:
                return False
            return shown(line.get("slow_loc")) == place

        slow_line(site, name, tmp_path / name, is_there=is_there)


def test_server_that_writes_to_a_slow_client_is_no_place_of_the_app(
    site: Server, tmp_path: Path
) -> None:
    """The client takes nothing of a large response. ASGI applications hand theirs over at once."""
    if site.name not in ASGI:

        def is_there(line: Line) -> bool:
            return line.get("slow_cause_loc") == "writing to the client"

        line = slow_line(site, "writes", tmp_path / "writes", is_there=is_there)
        assert "slow_loc" not in line


def test_server_that_reads_a_body_says_so(site: Server) -> None:
    """The view is named where it asks for the body, which the client doesn't send."""
    connection = site.connect()
    head = b"POST /reads/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: reads\r\nContent-Length: 9\r\n\r\n"
    connection.sendall(head + b"half")

    def probe() -> Line | None:
        lines = (line for line in site.lines() if line["req_id"] == "reads")
        slow = (line for line in lines if line["event_type"] == "slow")
        # The first one may be written before the view asks.
        return next((one for one in slow if one.get("slow_cause_loc") == "reading the body"), None)

    line = eventually(probe, site.report)
    connection.sendall(b"-rest")
    leave(connection)
    assert shown(line.get("slow_loc")) == (None if site.name in ASGI else "located.py:reads")


def test_middleware_that_raises_is_named(site: Server) -> None:
    """Django has no view for that request."""
    _, line = site.ask("/function/?for=/&raise")
    assert line["exc_type"] == "LookupError"
    assert shown(line["exc_loc"]) == shown(line["exc_cause_loc"]) == "located.py:__call__"
