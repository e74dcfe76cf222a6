"""Every kind of request gets exactly one line, with the status that the client really got."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct

import pytest

from tests.support.servers import (
    GUNICORN_VERSION,
    PATIENCE_S,
    Answer,
    Line,
    Server,
    eventually,
    gunicorn,
)

#: What Gunicorn says of a target that is too long.
TOO_LONG = 414 if GUNICORN_VERSION >= (27, 0) else 400

_numbers = itertools.count()


def ask(site: Server, path: str, **more: str) -> tuple[Answer, Line]:
    """Send a request under a new id and return the answer and the one line of that id."""
    request_id = f"test-{next(_numbers)}"
    answer = site.get(path, X_Request_ID=request_id, **more)
    return answer, site.line_of(request_id)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ok/", 200),
        ("/no-such-page/", 404),
        ("/missing/", 404),
        ("/raises/", 500),
        ("/middleware-raises/", 500),
        ("/middleware-answers/", 203),
        ("/bad-template/", 500),
        ("/syntax-template/", 500),
        ("/wsgi-raises/", 500),
        ("/wsgi-answers/", 202),
        ("/async-view/", 200),
        ("/stream/", 200),
        ("/file/", 200),
        ("/exits/", 500),
        ("/ok", 301),
    ],
)
def test_line_has_status_of_response(site: Server, path: str, status: int) -> None:
    """The line has the status that the client got, whether Django, middleware or Gunicorn answered."""
    answer, line = ask(site, path)
    assert answer.status == status
    assert line["resp_status"] == str(status)
    assert line["event_type"] == "request"
    assert line["req_path"] == path
    # Gunicorn writes its own 500 past its counter.
    assert status == 500 or line["resp_bytes"] == str(len(answer.body))


def a_line_without_collections(site: Server) -> tuple[str, Line]:
    """Return the id and the line of a request in which no garbage was collected: any request's turn may come."""
    headers = {"User_Agent": "probe/1.0", "Referer": "http://from.example/a"}
    for number in range(100):
        request_id = f"the-whole-line-{number}"
        site.get("/ok/", X_Request_ID=request_id, **headers)
        line = site.line_of(request_id)
        if "gc_time" not in line:
            return request_id, line
    raise AssertionError(site.report())


def test_whole_line_when_nothing_special_happens(site: Server) -> None:
    """An ordinary request's line holds these keys in this order, and nothing else."""
    # Once the arbiter has looked at the backlog, which it does each second.
    eventually(lambda: "g_backlog" in ask(site, "/ok/")[1], site.report)
    request_id, line = a_line_without_collections(site)
    variable = {}
    for key, pattern in {
        "ts": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
        "resp_time": r"0\.\d+",
        "resp_cpu_time": r"0\.\d+",
        "resp_ttfb": r"0\.\d+",
        "resp_cpu_wait": r"0\.\d+",
        "resp_blocked": r"0\.\d+",
        "mw_time": r"0\.\d+",
        "view_time": r"0\.\d+",
        "resp_other_time": r"0\.\d+",
        "g_backlog": r"\d+",
        "g_pid": r"\d+",
        "g_w_requests": r"\d+",
    }.items():
        assert re.fullmatch(pattern, line[key]), (key, line[key])
        variable[key] = line[key]
    assert list(line.items()) == list(
        {
            "ts": variable["ts"],
            "event_type": "request",
            "req_method": "GET",
            "req_path": "/ok/",
            "resp_status": "200",
            "resp_time": variable["resp_time"],
            "req_route": "ok/",
            "resp_view": "every_kind.ok",
            "req_client": "127.0.0.1",
            "req_host": "localhost",
            "req_scheme": "http",
            "req_proto": "1.1",
            "req_referrer": "http://from.example",
            "req_user_agent": "probe/1.0",
            "resp_bytes": "2",
            "resp_ttfb": variable["resp_ttfb"],
            "resp_cpu_time": variable["resp_cpu_time"],
            "resp_cpu_wait": variable["resp_cpu_wait"],
            "resp_blocked": variable["resp_blocked"],
            "mw_time": variable["mw_time"],
            "view_time": variable["view_time"],
            "resp_other_time": variable["resp_other_time"],
            "g_w_count": "1",
            "g_w_active": "1",
            "g_backlog": variable["g_backlog"],
            "g_t_count": "1",
            "g_t_active": "1",
            "g_pid": variable["g_pid"],
            "g_w_requests": variable["g_w_requests"],
            "req_id": request_id,
        }.items()
    )
    text = next(text for text in site.stdout.read_text().splitlines() if request_id in text)
    assert re.search(
        r" req_method=GET req_path=/ok/ resp_status=200 resp_time=0\.\d{6} ", text[:120]
    )


def test_line_names_trace_when_caller_has_sent_one(site: Server) -> None:
    """Ids of a trace stand last, and only where they name something: here nothing is exported."""
    caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    site.get("/ok/", X_Request_ID="traced-by-caller", **caller)
    line = site.line_of("traced-by-caller")
    assert list(line)[-4:] == ["req_id", "trace_id", "span_id", "sampled"]
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert line["span_id"] != "b7ad6b7169203331"
    assert line["sampled"] == "false"


def test_line_has_exception_when_view_raises(site: Server) -> None:
    """Type, message, the app's outermost frame and where it was raised; and the route still."""
    _, line = ask(site, "/raises/")
    assert line["exc_type"] == "Error"
    assert line["exc_msg"] == "Oh noes!"
    assert re.fullmatch(r"every_kind\.py:\d+:raises", line["exc_loc"])
    assert re.fullmatch(r"every_kind\.py:\d+:raise_deep", line["exc_cause_loc"])
    assert line["req_route"] == "raises/"
    assert line["resp_view"] == "every_kind.raises"


def test_cause_is_root_of_chain_when_exception_has_a_cause(site: Server) -> None:
    """`raise ... from error`: the type that arrived, the place where it began."""
    _, line = ask(site, "/raises-caused/")
    assert (line["exc_type"], line["exc_msg"]) == ("ValueError", "wrapped")
    assert re.fullmatch(r"every_kind\.py:\d+:raise_deep", line["exc_cause_loc"])


def test_cause_is_library_frame_when_app_has_one_frame(site: Server) -> None:
    """With a single app frame the cause is where the library really raised."""
    _, line = ask(site, "/raises-in-library/")
    assert re.fullmatch(r"every_kind\.py:\d+:raises_in_library", line["exc_loc"])
    assert re.fullmatch(r"json/decoder\.py:\d+:raw_decode", line["exc_cause_loc"])


def test_message_is_redacted_when_it_holds_a_secret(site: Server) -> None:
    """What an exception says about a password doesn't reach the log."""
    _, line = ask(site, "/raises-secret/")
    assert "hunter2" not in line["exc_msg"]
    assert "for ada" in line["exc_msg"]


def test_line_has_no_exception_when_view_raises_404(site: Server) -> None:
    """Http404 is an answer, not a failure."""
    _, line = ask(site, "/missing/")
    assert "exc_type" not in line


def test_line_has_innermost_template_line_when_template_raises(site: Server) -> None:
    """The included part's line, not that of the page which includes or extends it."""
    _, line = ask(site, "/bad-template/")
    assert line["exc_template"] == "bad_part.html:3"
    assert re.fullmatch(r"every_kind\.py:\d+:raise_deep", line["exc_cause_loc"])


def test_line_has_template_line_when_template_is_malformed(site: Server) -> None:
    """A syntax error is found in the template, too."""
    _, line = ask(site, "/syntax-template/")
    assert line["exc_template"] == "syntax.html:2"
    assert line["exc_type"] == "TemplateSyntaxError"


def test_line_has_exception_when_wsgi_middleware_raises(site: Server) -> None:
    """Django never saw it; Gunicorn answered 500."""
    answer, line = ask(site, "/wsgi-raises/")
    assert answer.status == 500
    assert line["exc_type"] == "Error"
    assert "req_route" not in line
    assert re.fullmatch(r"every_kind\.py:\d+:with_middleware", line["exc_loc"])


def test_line_has_no_status_when_wsgi_middleware_raises_oserror(site: Server) -> None:
    """Gunicorn closes such a connection without an answer, and the line says just that."""
    answer = site.send(
        b"GET /wsgi-os-error/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: os\r\n\r\n"
    )
    line = site.line_of("os")
    assert answer == b""
    assert "resp_status" not in line
    assert line["exc_type"] == "FileNotFoundError"
    assert "client_gone" not in line


def test_line_is_400_when_host_is_bad(site: Server) -> None:
    """A Host that Django refuses."""
    answer, line = ask(site, "/ok/", Host="evil.example")
    assert answer.status == 400
    assert line["resp_status"] == "400"
    assert line["req_host"] == "evil.example"


@pytest.mark.parametrize(
    ("request_bytes", "status", "expected"),
    [
        (b"NONSENSE\r\n\r\n", 400, {}),
        (b"get / HTTP/1.1\r\n\r\n", 400, {}),
        (
            b"GET /refused/?q=1 HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
            400,
            {"req_method": "GET", "req_path": "/refused/"},
        ),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", TOO_LONG, {}),
        (
            b"GET /refused/ HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
            431,
            {"req_method": "GET", "req_path": "/refused/"},
        ),
        (
            b"POST /refused/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\n\r\n",
            501,
            {"req_method": "POST", "req_path": "/refused/"},
        ),
    ],
)
def test_one_line_when_gunicorn_refuses(
    site: Server, request_bytes: bytes, status: int, expected: Line
) -> None:
    """A malformed request has its line, with what of it could be read."""
    before = len(site.lines())
    answer = site.send(request_bytes)
    [line] = site.wait_for_lines(before + 1)[before:]
    assert int(answer.split()[1]) == status
    assert line["resp_status"] == str(status)
    assert line["event_type"] == "request"
    assert line["exc_type"]
    assert {key: line.get(key) for key in expected} == expected
    assert line["req_client"] == "127.0.0.1"


def test_line_waits_for_last_byte_when_body_is_streamed(site: Server) -> None:
    """A stream's time and queries are those of its whole body, its first byte is early."""
    _, line = ask(site, "/stream/")
    assert line["db_queries"] == "3"
    assert float(line["resp_time"]) >= 0.3
    assert float(line["resp_ttfb"]) < float(line["resp_time"]) - 0.15


def test_line_has_sent_status_when_stream_breaks(site: Server) -> None:
    """The client got a 200 and a cut body; the exception says why."""
    request = b"GET /stream-breaks/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: cut\r\n\r\n"
    answer = site.send(request)
    line = site.line_of("cut")
    assert answer.startswith(b"HTTP/1.1 200")
    assert line["resp_status"] == "200"
    assert line["exc_msg"] == "mid-stream"


def test_line_says_client_gone_when_client_leaves(site: Server) -> None:
    """A client that resets the connection during a long download."""
    connection = site.connect()
    connection.sendall(
        b"GET /stream-long/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: gone\r\n\r\n"
    )
    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    line = site.line_of("gone")
    assert line["client_gone"] == "true"
    assert line["resp_status"] == "200"
    assert "exc_type" not in line


def test_no_line_when_client_sends_nothing(site: Server) -> None:
    """A connection without a request is no request."""
    before = len(site.lines())
    site.connect().close()
    ask(site, "/ok/")
    assert len(site.lines()) == before + 1


@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
def test_one_line_each_when_connection_is_kept_alive(
    worker_class: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two requests after each other and two pipelined ones on one connection: four lines."""
    if worker_class == "gevent":
        pytest.importorskip("gevent", reason="pip install gevent")
    directory = tmp_path_factory.mktemp("keepalive")
    with gunicorn(
        "every_kind", directory, "-k", worker_class, SITE_DIRECTORY=str(directory)
    ) as site:

        def request(number: int) -> bytes:
            head = (
                f"GET /item/n{number}/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: k{number}\r\n"
            )
            return head.encode() + b"\r\n"

        with contextlib.closing(site.connect()) as connection:
            for number in (1, 2):
                connection.sendall(request(number))
                received = b""
                while not received.endswith(b"n%d" % number):
                    received += connection.recv(65536)
            connection.sendall(request(3) + request(4))
            received = b""
            connection.settimeout(PATIENCE_S)
            while received.count(b"HTTP/1.1 200") < 2:
                received += connection.recv(65536)
        lines = site.wait_for_lines(4)
        assert [(line["req_id"], line["req_path"]) for line in lines] == [
            (f"k{n}", f"/item/n{n}/") for n in (1, 2, 3, 4)
        ]


def test_one_line_when_client_sends_expect_continue(site: Server) -> None:
    """A body announced with `Expect: 100-continue` is one request."""
    site.send(
        b"POST /created/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: expect\r\n"
        b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
    )
    line = site.line_of("expect")
    assert (line["resp_status"], line["req_bytes"]) == ("201", "3")


def test_no_fact_is_left_for_next_request(site: Server) -> None:
    """What one request set, queried and raised isn't on the next one's line."""
    for path in ("/facts/", "/queries/", "/raises/", "/bad-template/"):
        ask(site, path)
    _, line = ask(site, "/ok/")
    assert not [key for key in line if key.startswith(("app_", "db_", "exc_", "tpl_"))]


def test_thread_left_behind_writes_into_no_request(site: Server) -> None:
    """A thread that outlives its request can't add to it, nor to a later one."""
    _, first = ask(site, "/leaves-thread/")
    _, second = ask(site, "/sleeps/?s=0.5")
    assert "app_late" not in first
    assert "app_late" not in second
    eventually(lambda: len(site.lines()) >= 2, site.report)
