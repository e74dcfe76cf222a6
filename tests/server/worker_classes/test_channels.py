"""Websockets of Channels: their route, their consumer, and what went wrong in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import Line, Server, gunicorn

CLASSES = {"asgi": ("-k", "asgi"), "uvicorn": ("-k", "uvicorn_worker.UvicornWorker")}


@pytest.fixture(scope="module", params=list(CLASSES))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A worker of each class."""
    directory = tmp_path_factory.mktemp("channels")
    with gunicorn("channels_site:application", directory, *CLASSES[request.param]) as server:
        yield server


def line_of(site: Server, path: str) -> Line:
    """Return the line of a websocket, begun as a browser does."""
    request_id = f"ws{path.replace('/', '-')}"
    head = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"X-Request-ID: {request_id}\r\n\r\n"
    )
    with site.connect() as connection:
        connection.sendall(head.encode())
        return site.line_of(request_id)


@pytest.mark.parametrize(
    ("path", "route", "consumer"),
    [("/chat/lobby/", "chat/<room>/", "Chat"), ("/feed/", "feed/", "Feed")],
)
def test_route_and_consumer_are_named(site: Server, path: str, route: str, consumer: str) -> None:
    """By Channels' own routing, in a sync consumer and an async one."""
    line = line_of(site, path)
    assert (line["resp_status"], line["req_route"]) == ("101", route)
    assert line["resp_view"].startswith("channels_site.")
    assert line["resp_view"].endswith(f".{consumer}")
    assert "exc_type" not in line


def test_unknown_path_is_no_failure_of_ours(site: Server) -> None:
    """Channels raises; its own frame is named, not the one of ours below it."""
    line = line_of(site, "/nowhere/")
    assert line["exc_type"] == "ValueError"
    assert line["exc_loc"].startswith("channels/")
    assert "otel_canonical" not in line["exc_loc"] + line["exc_cause_loc"]
    assert "req_route" not in line


def test_consumer_that_raises_is_named(site: Server) -> None:
    """Where the app raised, in the thread that runs sync consumers."""
    line = line_of(site, "/broken/7/")
    assert (line["exc_type"], line["exc_msg"]) == ("LookupError", "no such room")
    assert line["exc_loc"].startswith("channels_site.py:")
    assert line["req_route"] == "broken/<number>/"
