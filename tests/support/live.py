"""Requests that stay open, and the commands that look at them."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from otel_canonical import cli
from tests.support.servers import Server, eventually

COMMAND = [str(Path(sys.executable).parent / "otel-canonical")]
COMMAND_S = 60.0

#: Worker class, its arguments, the application.
CLASSES = {
    "gthread": (("-k", "gthread", "--threads", "8"), "live"),
    "gevent": (("-k", "gevent"), "live"),
    "asgi": (("-k", "asgi"), "live:asgi"),
    "uvicorn": (("-k", "uvicorn_worker.UvicornWorker"), "live:asgi"),
}


def otel_canonical(*arguments: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*prefix, *COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )


def ps(site: Server) -> dict[str, Any]:
    """Return what `ps --json` says of a pool."""
    done = otel_canonical("ps", str(site.pid), "--json")
    assert done.returncode == 0, done.stderr
    return _pool_in(done.stdout)


def ps_in_process(site: Server) -> dict[str, Any]:
    """Return the same without an interpreter of its own, which costs more than a server's request."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert cli.main(["ps", str(site.pid), "--json"]) == 0
    return _pool_in(shown.getvalue())


def wait_for_pool(site: Server, is_right: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until `ps` shows a pool that is right."""
    eventually(
        lambda: is_right(ps_in_process(site)), lambda: f"{ps_in_process(site)}\n{site.report()}"
    )


def _pool_in(shown: str) -> dict[str, Any]:
    [pool] = json.loads(shown)["pools"]
    assert isinstance(pool, dict)
    return pool


def stacks(site: Server) -> list[dict[str, Any]]:
    """Return what `stacks --json` says of a pool."""
    done = otel_canonical("stacks", str(site.pid), "--json")
    assert done.returncode == 0, done.stderr
    [pool] = json.loads(done.stdout)["pools"]
    assert isinstance(pool["stacks"], list)
    return pool["stacks"]


@contextlib.contextmanager
def held(site: Server, *paths: str) -> Iterator[None]:
    """Send requests and don't wait for their answers; their ids are their paths' first parts."""
    with contextlib.ExitStack() as connections:
        for path in paths:
            connection = connections.enter_context(site.connect())
            name = path.strip("/").partition("?")[0].strip("/").replace("/", "-")
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {name}\r\n\r\n"
            connection.sendall(head.encode())
        yield


def open_requests(site: Server, count: int) -> dict[str, dict[str, Any]]:
    """Return the open requests of a pool by their ids, once there are `count`."""
    wait_for_pool(site, lambda pool: len(pool["requests"]) >= count)
    found = ps(site)["requests"]
    assert len(found) == count, found
    return {request["req_id"]: request for request in found}
