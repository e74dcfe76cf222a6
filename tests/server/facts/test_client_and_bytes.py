"""Who has asked, known from the first byte on; and how much of a file the client was sent."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.raw_requests import begin, leave
from tests.support.servers import eventually, gunicorn

CLASSES = {"sync": (), "gthread": ("-k", "gthread"), "gevent": ("-k", "gevent")}
PROXIED = (
    b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 80\r\n"
    b"GET /waits/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: proxied\r\n\r\n"
)


@pytest.mark.parametrize("name", list(CLASSES))
def test_bytes_are_those_that_were_sent_when_client_leaves_a_file(
    name: str, tmp_path: Path
) -> None:
    """By sendfile(2), of which Gunicorn counts nothing."""
    with gunicorn("files", tmp_path, *CLASSES[name]) as server:
        answer, line = server.ask("/file/")
        assert line["resp_bytes"] == str(len(answer.body)) == "30000000"
        connection = begin(server, "/file/", "left")
        assert len(connection.recv(5000)) > 0
        leave(connection)
        line = server.line_of("left")
        assert line["client_gone"] == "true"
        assert 0 < int(line["resp_bytes"]) < 30_000_000


@pytest.mark.parametrize("name", ["sync", "gthread"])
def test_lost_request_has_the_client_that_the_proxy_names(name: str, tmp_path: Path) -> None:
    """As its `request` line would."""
    with gunicorn("files", tmp_path, *CLASSES[name], "--proxy-protocol", "v1") as server:
        connection = server.connect()
        connection.sendall(PROXIED)
        server.wait_for("waiting")
        os.kill(server.workers()[0], signal.SIGKILL)
        line = server.line_of("proxied")
        assert (line["event_type"], line["req_client"]) == ("lost", "203.0.113.7")
        connection.close()


@pytest.mark.parametrize("name", list(CLASSES))
def test_failed_handshake_is_no_request(name: str, tmp_path: Path) -> None:
    """Plain HTTP, sent to a port that speaks TLS."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    arguments = ("--certfile", str(certificate), "--keyfile", str(key))
    with gunicorn("files", tmp_path, *CLASSES[name], *arguments, bind="127.0.0.1:0") as server:
        for _ in range(3):
            server.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        os.kill(server.pid, signal.SIGTERM)
        eventually(lambda: server.process.poll() is not None, server.report)
        assert server.lines() == []
