"""ASGI applications that take liberties: a line is right, and nothing of it reaches the client."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.raw_requests import begin
from tests.support.servers import Server, eventually, gunicorn

CLASSES = {
    "asgi": ("-k", "asgi"),
    "uvicorn": ("-k", "uvicorn_worker.UvicornWorker"),
}
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"X-Request-ID: socket\r\n\r\n"
)


@pytest.fixture(scope="module", params=list(CLASSES))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A worker of each class; responses carry their request's id."""
    directory = tmp_path_factory.mktemp("odd")
    with gunicorn(
        "odd_asgi:application",
        directory,
        *CLASSES[request.param],
        OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID="true",
    ) as server:
        server.name = request.param
        yield server


def test_client_is_left_out_or_that_of_the_connection_when_it_cannot_be_read(site: Server) -> None:
    """An address is a pair of text and port."""
    for path in ("/text-client", "/odd-client"):
        answer, line = site.ask(path)
        assert answer.body == b"whole"
        assert line["req_client"] == "127.0.0.1"
        assert line["req_scheme"] == "http"


def test_response_is_the_applications_when_its_headers_are_text(site: Server) -> None:
    """Gunicorn takes them; Uvicorn does not, with us or without."""
    if site.name == "asgi":
        answer, line = site.ask("/text-headers")
        assert (answer.status, line["resp_status"]) == (200, "200")
        assert {name.lower() for name in answer.headers} >= {"x-a", "x-request-id"}


def test_bytes_are_those_that_were_sent_when_the_body_is_too_long(site: Server) -> None:
    """What goes beyond the announced length is not sent."""
    if site.name == "asgi":  # Uvicorn raises in the application instead
        answer, line = site.ask("/too-long")
        assert (answer.body, line["resp_bytes"]) == (b"whole", "5")


def test_line_is_written_with_the_last_byte(site: Server) -> None:
    """What is raised behind it is nobody's failure."""
    answer, line = site.ask("/late")
    assert (answer.body, line["resp_status"]) == (b"whole", "200")
    assert "exc_type" not in line


def test_status_of_a_websocket_is_the_servers_when_nobody_has_accepted_it(site: Server) -> None:
    """The client gets an answer to its handshake."""
    got = site.send(HANDSHAKE)
    line = site.line_of("socket")
    assert got.split()[1].decode() == line["resp_status"]


@pytest.mark.parametrize("name", list(CLASSES))
def test_complete_response_is_no_lost_request(name: str, tmp_path: Path) -> None:
    """The worker is killed while the application is still busy."""
    with gunicorn("odd_asgi:application", tmp_path, *CLASSES[name]) as server:
        busy = begin(server, "/busy", "busy")
        server.wait_for(r"(?m)^busy")
        line = server.line_of("busy")
        worker = server.workers()[0]
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: worker not in server.workers() and server.workers(), server.report)
        busy.close()
        assert (line["event_type"], line["resp_status"]) == ("request", "200")
        assert server.wait_for_lines(1)[0]["req_id"] == "busy"


def test_path_is_the_clients_under_a_root_path(tmp_path: Path) -> None:
    """Uvicorn puts its own `root_path` in front."""
    with gunicorn("odd_asgi:application", tmp_path, "-k", "odd_asgi.RootedWorker") as server:
        _, line = server.ask("/root")
        assert line["req_path"] == "/root"
