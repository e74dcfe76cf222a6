"""A worker that is killed in the middle of a response: the line says what the client has got so far."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.raw_requests import begin
from tests.support.servers import Server, gunicorn
from tests.support.soak import some_of
from tests.support.worker_classes import ASGI, CLASSES, site_of

#: Bytes; who has got so many has got the head a while ago.
BEHIND_THE_HEAD = 50_000


@contextlib.contextmanager
def worker_of(name: str, directory: Path) -> Iterator[Server]:
    """Start a worker of a class, or a sync one."""
    if name == "sync":
        with gunicorn("any_class:application", directory, SITE_DIRECTORY=str(directory)) as server:
            yield server
    else:
        with site_of(name, directory) as server:
            yield server


@pytest.mark.soak
@pytest.mark.parametrize("name", some_of(["sync", *CLASSES], "sync", "gevent", "asgi"))
def test_lost_line_has_status_and_client_when_the_head_was_sent(name: str, tmp_path: Path) -> None:
    """Killed while a client has taken the beginning of a long stream; the client is the peer."""
    path = "/async_long_stream/" if name in ASGI else "/long_stream/"
    with worker_of(name, tmp_path) as site:
        connection = begin(site, f"{path}?t=cut", "cut")
        received = b""
        while len(received) < BEHIND_THE_HEAD:
            received += connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 200")
        os.kill(site.workers()[0], signal.SIGKILL)
        line = site.line_of("cut")
        connection.close()
        assert (line["event_type"], line["lost_cause"]) == ("lost", "SIGKILL")
        assert (line["resp_status"], line["req_client"]) == ("200", "127.0.0.1")
