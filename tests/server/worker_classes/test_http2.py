"""HTTP/2: one line for each stream, whatever else its connection carries."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, eventually
from tests.support.worker_classes import site_of

pytest.importorskip("h2", reason="pip install h2")

#: Classes of Gunicorn's that speak it.
CLASSES = ["gthread", "gevent", "asgi"]
CLEARTEXT = ("--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge")


class Client:
    """One connection that carries several requests.

    Args:
        site: where to.
        takes_bodies: False lets the server send heads only.
    """

    def __init__(self, site: Server, *, takes_bodies: bool = True) -> None:
        from h2.connection import H2Connection
        from h2.settings import SettingCodes

        self._socket = site.connect()
        self._h2 = H2Connection()
        self._h2.initiate_connection()
        if not takes_bodies:
            self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        #: By stream.
        self.statuses: dict[int, str] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self._flush()

    def ask(self, path: str, request_id: str) -> int:
        """Send a request; return its stream."""
        stream: int = self._h2.get_next_available_stream_id()
        self._h2.send_headers(
            stream,
            [
                (":method", "GET"),
                (":path", path),
                (":scheme", "http"),
                (":authority", "localhost"),
                ("x-request-id", request_id),
            ],
            end_stream=True,
        )
        self.bodies[stream] = b""
        self._flush()
        return stream

    def reset(self, stream: int) -> None:
        """Take a request back."""
        self._h2.reset_stream(stream)
        self._flush()

    def receive(self, *, acknowledged: bool = True) -> None:
        """Take in what comes next; without acknowledgement the server may send no more."""
        from h2 import events

        for event in self._h2.receive_data(self._socket.recv(65536)):
            if isinstance(event, events.ResponseReceived):
                self.statuses[event.stream_id] = dict(event.headers)[b":status"].decode()
            elif isinstance(event, events.DataReceived):
                self.bodies[event.stream_id] += event.data
                if acknowledged:
                    length = event.flow_controlled_length
                    self._h2.acknowledge_received_data(length, event.stream_id)
            elif isinstance(event, (events.StreamEnded, events.StreamReset)):
                self.ended.add(event.stream_id)
        self._flush()

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())


@pytest.fixture(scope="module", params=CLASSES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A worker that speaks HTTP/2 to clients with prior knowledge."""
    with site_of(request.param, tmp_path_factory.mktemp("http2"), *CLEARTEXT) as server:
        yield server


def test_one_line_for_each_stream(site: Server) -> None:
    """Five requests on one connection at once."""
    before = len(site.lines())
    with contextlib.closing(Client(site)) as client:
        paths = {
            "plain": "/plain/?t=plain&n=2",
            "stream": "/stream/?t=stream&n=1",
            "raises": "/raises/?t=raises",
            "slow": "/plain/?t=slow&s=0.2",
            "nowhere": "/nowhere/",
        }
        streams = {name: client.ask(path, f"h2-{name}") for name, path in paths.items()}
        while not set(streams.values()) <= client.ended:
            client.receive()
        lines = {line["req_id"]: line for line in site.wait_for_lines(before + 5)[before:]}
    for name, stream in streams.items():
        line = lines[f"h2-{name}"]
        assert (line["req_proto"], line["req_host"]) == ("2", "localhost")
        assert line["resp_status"] == client.statuses[stream]
        assert line["resp_bytes"] == str(len(client.bodies[stream]))
        assert line.get("app_mark") == (None if name == "nowhere" else name)
    assert lines["h2-plain"]["db_queries"] == "2"
    assert lines["h2-stream"]["db_queries"] == "1"
    assert lines["h2-raises"]["exc_msg"] == "raises"


def test_line_says_client_gone_when_stream_is_reset(site: Server) -> None:
    """In the middle of a long response; the connection goes on."""
    name = f"reset-{site.name}"
    with contextlib.closing(Client(site)) as client:
        stream = client.ask("/long_stream/?t=gone", name)
        while not client.bodies[stream]:
            client.receive(acknowledged=False)
        client.reset(stream)
        line = eventually(
            lambda: next((line for line in site.lines() if line["req_id"] == name), None),
            site.report,
        )
        assert (line["resp_status"], line["client_gone"]) == ("200", "true")
        assert not [key for key in line if key.startswith("exc_")]
        after = client.ask("/plain/?t=after", f"after-{name}")
        while after not in client.ended:
            client.receive()
        assert site.line_of(f"after-{name}")["app_mark"] == "after"


def test_line_has_the_status_when_stream_is_reset_behind_its_head(site: Server) -> None:
    """The client has got the head and none of the body."""
    name = f"head-only-{site.name}"
    with contextlib.closing(Client(site, takes_bodies=False)) as client:
        stream = client.ask("/long_stream/?t=head", name)
        while stream not in client.statuses:
            client.receive()
        assert client.bodies[stream] == b""
        client.reset(stream)
        line = site.line_of(name)
    assert (line["resp_status"], line["client_gone"]) == ("200", "true")
    assert not [key for key in line if key.startswith("exc_")]


def test_line_is_right_when_application_raises_outside_of_django(tmp_path: Path) -> None:
    """The stream gets a 500 from Gunicorn, and the line says so."""
    with (
        site_of("asgi", tmp_path, *CLEARTEXT) as site,
        contextlib.closing(Client(site)) as client,
    ):
        for path, message in (("/outside/raises/", "outside"), ("/outside/headless/", "headless")):
            stream = client.ask(path, message)
            while stream not in client.ended:
                client.receive()
            line = site.line_of(message)
            assert line["resp_status"] == client.statuses[stream] == "500"
            assert line["exc_msg"] == message
