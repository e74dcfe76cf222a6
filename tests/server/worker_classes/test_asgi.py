"""One right line for every request under the ASGI servers: Gunicorn's own and Uvicorn, each loop and parser."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.otlp_sink import otlp_sink
from tests.support.raw_requests import begin, leave
from tests.support.servers import PATIENCE_S, Line, Server, eventually, gunicorn
from tests.support.soak import some_of

pytest.importorskip("uvicorn_worker", reason="pip install uvicorn-worker")


#: Arguments of Gunicorn's by the name of what they start.
SERVERS = {
    "asgi": ["-k", "asgi"],
    "asgi-asyncio": ["-k", "asgi", "--asgi-loop", "asyncio"],
    "uvicorn": ["-k", "uvicorn_worker.UvicornWorker"],
    "uvicorn-h11": ["-k", "uvicorn_worker.UvicornH11Worker"],
    "uvicorn.workers": ["-k", "uvicorn.workers.UvicornWorker"],
}

#: One of each implementation, where loop and parser make no difference.
EACH = ["asgi", "uvicorn"]


@contextlib.contextmanager
def asgi_site(name: str, directory: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """Start a worker of that name with `programs/any_class.py`."""
    with gunicorn(
        "any_class:asgi",
        directory,
        *SERVERS[name],
        *arguments,
        SITE_DIRECTORY=str(directory),
        **environment,
    ) as server:
        yield server


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A worker of each kind, nothing set but defaults."""
    with asgi_site(request.param, tmp_path_factory.mktemp("asgi")) as server:
        server.name = request.param
        yield server


def receive_until(connection: socket.socket, expected: bytes) -> None:
    """Receive until it is there."""
    received = b""
    while expected not in received:
        chunk = connection.recv(65536)
        assert chunk, received
        received += chunk


def wait_until_running(site: Server, count: int) -> None:
    """Wait until another request's line says that so many run beside it."""

    def probe() -> bool:
        _, line = site.ask("/async_plain/?t=probe")
        return int(line["g_t_active"]) > count

    eventually(probe, site.report)


@pytest.mark.parametrize("view", ["plain", "async_plain", "stream", "async_stream", "crosses"])
def test_line_has_all_facts_when_django_answers(site: Server, view: str) -> None:
    """Of the request, the connection, the response, the queries, and what the app sets."""
    answer, line = site.ask(f"/{view}/?t=mark&n=3", User_Agent="tests", Referer="http://a/b")
    assert answer.body == b"mark"
    assert float(line.pop("resp_ttfb")) <= float(line["resp_time"])
    for key in ("ts", "resp_time", "db_time", "db_dup_time", "db_fetch_time", "g_pid"):
        line.pop(key)
    # Where a connection was opened, and rows were fetched, is another matter for each database.
    for key in ("db_connects", "db_connect_time", "db_rows"):
        line.pop(key, None)
    for key in ("mw_time", "view_time", "resp_other_time"):
        assert float(line.pop(key)) >= 0
    assert (float(line.pop("body_time", 0)) > 0) == ("stream" in view)
    # Imports, collections and work side by side are a matter of chance.
    for key in ("imports", "gc_time", "gc_runs", "mem_growth", "resp_overlap"):
        line.pop(key, None)
    for key in ("g_backlog", "g_t_active", "g_w_requests", "app_steps", "req_id"):
        line.pop(key, None)
    assert line == {
        "event_type": "request",
        "req_method": "GET",
        "req_path": f"/{view}/",
        "req_host": "localhost",
        "req_scheme": "http",
        "req_proto": "1.1",
        "req_route": f"{view}/",
        "req_referrer": "http://a",
        "req_user_agent": "tests",
        "req_client": "127.0.0.1",
        "resp_view": f"any_class.{view}",
        "resp_status": "200",
        "resp_bytes": "4",
        "db_queries": "3",
        "db_dup_queries": "3",
        "app_mark": "mark" if view != "crosses" else line["app_mark"],
        "g_w_count": "1",
        "g_w_active": "1",
    }


@pytest.mark.parametrize("view", ["raises", "async_raises"])
def test_line_has_exception_when_view_raises(site: Server, view: str) -> None:
    """Type, message and place, with the status of Django's answer."""
    _, line = site.ask(f"/{view}/?t=mark")
    assert (line["resp_status"], line["exc_type"], line["exc_msg"]) == (
        "500",
        "LookupError",
        "mark",
    )
    assert re.fullmatch(rf"any_class\.py:\d+:{view}", line["exc_loc"])
    assert line["req_route"] == f"{view}/"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/outside/raises/", {"resp_status": "500", "exc_type": "LookupError"}),
        ("/outside/silent/", {"resp_status": "500", "exc_type": None}),
        ("/outside/half/", {"resp_status": "200", "exc_msg": "half", "resp_bytes": "4"}),
        ("/cancels_itself/", {"resp_status": None, "exc_type": "CancelledError"}),
    ],
)
def test_line_says_what_client_got_when_application_breaks(
    site: Server, path: str, expected: dict[str, str | None]
) -> None:
    """Outside of Django, before and in the middle of a response."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-ID: {path}"
    received = site.send(request.encode() + b"\r\n\r\n")
    line = site.line_of(path)
    if path == "/cancels_itself/" and line.get("resp_status"):
        expected = {**expected, "resp_status": "500"}  # by Uvicorn
    assert {key: line.get(key) for key in expected} == expected
    assert "client_gone" not in line
    assert received.startswith(f"HTTP/1.1 {line.get('resp_status', '')}".encode()) or not received


def test_line_has_no_status_when_head_was_never_written(site: Server) -> None:
    """Gunicorn writes a head with its body; Uvicorn at once."""
    received = site.send(
        b"GET /outside/headless/ HTTP/1.1\r\nHost: a\r\nX-Request-ID: headless\r\n\r\n"
    )
    line = site.line_of("headless")
    assert line["exc_msg"] == "headless"
    assert line.get("resp_status") == ("200" if received else None)


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"NONSENSE\r\n\r\n", {}),
        (b"GET /refused/?q=1 HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n", {"path": "/refused/"}),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", {}),
        (
            b"POST /refused/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\n\r\n",
            {"path": "/refused/"},
        ),
    ],
)
def test_one_line_when_server_refuses(
    site: Server, request_bytes: bytes, expected: dict[str, str]
) -> None:
    """A malformed request has its line, with the status that the server answered."""
    site.ask("/async_plain/?t=before")
    before = len(site.lines())
    answer = site.send(request_bytes)
    site.ask("/async_plain/?t=after")
    line, _ = site.wait_for_lines(before + 2)[before:]
    assert line["resp_status"] == answer.split()[1].decode()
    assert line["event_type"] == "request"
    assert line["exc_type"]
    assert "q=1" not in str(line)
    assert line["req_client"] == "127.0.0.1"
    if expected and site.name != "uvicorn-h11":  # h11 keeps nothing of a request that it refuses
        assert line["req_path"] == expected["path"]


def test_one_line_when_body_is_malformed(site: Server) -> None:
    """Refused in the middle of its body: the request's own line says so, there is no second one."""
    before = len(site.lines())
    answer = site.send(
        b"POST /async_plain/?t=body HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: body\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n"
    )
    line = site.line_of("body")
    assert line["resp_status"] == answer.split()[1].decode() == "400"
    assert "client_gone" not in line
    site.ask("/async_plain/?t=after")
    site.wait_for_lines(before + 2)


WAITS, STREAMS = "/async_waits/?t=gone", "/async_long_stream/?t=gone"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "is_exporting", "path"),
    some_of(
        itertools.product(EACH, [False, True], [WAITS, STREAMS]),
        *(("asgi", True, WAITS), ("asgi", False, STREAMS)),
        *(("uvicorn", True, STREAMS), ("uvicorn", False, WAITS)),
    ),
)
def test_line_says_client_gone_when_client_leaves(
    name: str, is_exporting: bool, path: str, tmp_path: Path
) -> None:
    """A cancelled view and a cut stream: one line each, and nothing about contexts on stderr."""
    with contextlib.ExitStack() as stack:
        environment = {}
        if is_exporting:
            sink = stack.enter_context(otlp_sink())
            environment = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
                "OTEL_BSP_SCHEDULE_DELAY": "50",
            }
        site = stack.enter_context(asgi_site(name, tmp_path, **environment))
        connection = begin(site, path, "gone")
        if "stream" in path:
            connection.recv(100)
        else:
            wait_until_running(site, 1)
        leave(connection)
        line = site.line_of("gone")
        assert line["client_gone"] == "true"
        assert line["app_mark"] == "gone"
        assert line.get("resp_status") == ("200" if "stream" in path else None)
        assert not [key for key in line if key.startswith("exc_")]
        if is_exporting:
            root = sink.root_of(line)
            assert root.attributes["canonical.client_gone"] is True
        os.kill(site.pid, signal.SIGTERM)
        site.process.wait(PATIENCE_S)
        assert "different Context" not in site.stderr.read_text()
        assert "Failed to detach" not in site.stderr.read_text()


@pytest.mark.parametrize("name", EACH)
def test_async_view_needs_no_thread_when_spans_are_exported(name: str, tmp_path: Path) -> None:
    """OpenTelemetry's middleware takes no async request through a thread, and its span is the root."""
    with (
        otlp_sink() as sink,
        asgi_site(
            name,
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_PYTHON_CANONICAL_SLOW_SECONDS="0.2",
        ) as site,
    ):
        for view in ("async_plain", "plain", "async_raises", "async_stream"):
            _, line = site.ask(f"/{view}/?t=mark")
            root = sink.root_of(line)
            assert root.name == f"GET {view}/"
            assert root.attributes["http.response.status_code"] == int(line["resp_status"])
            assert root.attributes["http.route"] == f"{view}/"
        connection = begin(site, "/async_plain/?t=mark&s=0.4", "slow")
        eventually(lambda: {"slow"} & {line["req_id"] for line in site.lines()}, site.report)
        slow = next(line for line in site.lines() if line["req_id"] == "slow")
        assert slow["event_type"] == "slow"
        assert "any_class.py" in slow["slow_stack"]
        assert "asgiref" not in slow["slow_stack"]
        connection.close()


def test_one_line_each_when_connection_is_kept_alive(site: Server) -> None:
    """Two requests after each other and two pipelined ones on one connection: four lines."""
    before = len(site.lines())

    def request(number: int) -> bytes:
        head = f"GET /plain/?t=n{number} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: k{number}"
        return head.encode() + b"\r\n\r\n"

    with contextlib.closing(site.connect()) as connection:
        for number in (1, 2):
            connection.sendall(request(number))
            receive_until(connection, b"n%d" % number)
        connection.sendall(request(3) + request(4))
        receive_until(connection, b"n4")
        assert site.line_of("k4")["app_mark"] == "n4"
    lines = site.wait_for_lines(before + 4)[before:]
    assert {(line["req_id"], line["app_mark"]) for line in lines} == {
        (f"k{n}", f"n{n}") for n in (1, 2, 3, 4)
    }


def test_no_bytes_are_counted_when_there_is_no_body(site: Server) -> None:
    """HEAD."""
    request_id = f"head-{site.name}"
    site.send(
        f"HEAD /plain/?t=mark HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"X-Request-ID: {request_id}\r\n\r\n".encode()
    )
    line = site.line_of(request_id)
    assert (line["req_method"], line["resp_status"], line["resp_bytes"]) == ("HEAD", "200", "0")


def test_task_left_behind_writes_into_no_request(site: Server, tmp_path: Path) -> None:
    """What a request leaves running can't add to it, nor to a later one, nor keep it open."""
    for view in ("leaves_task", "leaves_thread"):
        gate = tmp_path / view
        _, first = site.ask(f"/{view}/?t=left&gate={gate}")
        gate.touch()
        _, second = site.ask("/async_plain/?t=second&s=0.5")
        for line in (first, second):
            assert "app_late" not in line
            assert "db_queries" not in line or line["db_queries"] == "0"
        assert second["g_t_active"] == "1"


HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {id}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
)


@pytest.mark.parametrize(
    ("path", "status"), [("/echo/", "101"), ("/refused/", "403"), ("/failing/", "500")]
)
def test_one_line_when_websocket_is_done(site: Server, path: str, status: str) -> None:
    """A websocket is one request that lasts: its line comes when it ends."""
    request_id = f"{site.name}{path}"
    key = base64.b64encode(b"k" * 16).decode()
    with contextlib.closing(site.connect()) as connection:
        connection.sendall(HANDSHAKE.format(path=path, id=request_id, key=key).encode())
        assert connection.recv(65536).split()[1].decode() == status
        if status == "101":
            # A masked text frame, the mask all zeros, and its echo.
            connection.sendall(b"\x81\x85\0\0\0\0hello")
            assert connection.recv(65536) == b"\x81\x05hello"
            assert request_id not in {line["req_id"] for line in site.lines()}
            # Closed with 4001, a code of the application's.
            connection.sendall(b"\x88\x82\0\0\0\0\x0f\xa1")
            connection.recv(65536)
    line = site.line_of(request_id)
    messages = (line["ws_messages_in"], line["ws_messages_out"], line.get("ws_close_code"))
    assert messages == (("1", "1", "4001") if status == "101" else ("0", "0", None))
    assert (line["req_method"], line["req_path"], line["resp_status"]) == ("GET", path, status)
    assert line["req_scheme"] == "ws"
    assert line["resp_bytes"] == ("5" if status == "101" else "0")
    assert ("exc_msg" in line) == (status == "500")


def test_one_line_when_websocket_handshake_is_bad(tmp_path: Path) -> None:
    """Gunicorn answers that by itself."""
    with asgi_site("asgi", tmp_path) as site:
        received = site.send(HANDSHAKE.format(path="/echo/", id="bad", key="short").encode())
        line = site.line_of("bad")
        assert line["resp_status"] == received.split()[1].decode() == "400"
        assert line["req_path"] == "/echo/"


@pytest.mark.parametrize("name", EACH)
def test_response_has_request_id_when_asked_for(name: str, tmp_path: Path) -> None:
    """The id of the line, as a header."""
    with asgi_site(name, tmp_path, OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID="true") as site:
        answer, line = site.ask("/async_plain/?t=mark")
        headers = {key.lower(): value for key, value in answer.headers.items()}
        assert headers["x-request-id"] == line["req_id"]


def test_one_line_when_uvicorn_is_too_busy(tmp_path: Path) -> None:
    """Its own 503 is an answer like any other."""
    with gunicorn(
        "any_class:asgi",
        tmp_path,
        *("-k", "few_at_once.FewAtOnce"),
        SITE_DIRECTORY=str(tmp_path),
    ) as site:
        connections = [begin(site, "/async_waits/?t=busy", f"busy-{n}") for n in range(2)]

        def is_full() -> Line | None:
            answer, line = site.ask("/async_plain/?t=probe")
            assert line["resp_status"] == str(answer.status)
            return line if answer.status == 503 else None

        line = eventually(is_full, site.report)
        assert "req_route" not in line
        for connection in connections:
            leave(connection)


def test_line_is_lost_when_graceful_shutdown_runs_out(tmp_path: Path) -> None:
    """Cancelled by a worker that leaves after its last request, without an answer."""
    arguments = ("--graceful-timeout", "1", "--max-requests", "1")
    with asgi_site("asgi", tmp_path, *arguments) as site:
        connection = begin(site, "/async_waits/?t=lost", "lost")
        site.ask("/async_plain/?t=last")
        line = site.line_of("lost")
        connection.close()
        assert (line["event_type"], line["lost_cause"]) == ("lost", "shutdown")
        assert line["app_mark"] == "lost"
        assert "resp_status" not in line


@pytest.mark.parametrize("name", EACH)
def test_lost_line_for_each_request_when_worker_is_killed(name: str, tmp_path: Path) -> None:
    """kill -9 with ten requests open: ten lines."""
    with asgi_site(name, tmp_path) as site:
        connections = [begin(site, f"/async_waits/?t=l{n}", f"lost-{n}") for n in range(10)]
        wait_until_running(site, 10)
        os.kill(site.workers()[0], signal.SIGKILL)
        for n in range(10):
            line = site.line_of(f"lost-{n}")
            assert (line["event_type"], line["lost_cause"]) == ("lost", "SIGKILL")
            assert line["req_route"] == "async_waits/"
        for connection in connections:
            connection.close()
