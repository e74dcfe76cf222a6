"""What leaves on the wire to the log: whole lines, true values, no forgery, and never a lost request."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from otel_canonical import internal_errors
from otel_canonical.event import logfmt, output
from otel_canonical.event.fields import PROTECTED
from otel_canonical.event.output import _STANDARD_OUTPUTS, PATIENCE_MS, LineOutput, report, select
from tests.support.servers import Line, Server, eventually, gunicorn

#: Up to here Linux writes to a pipe in one piece; the promise about every line.
PIPE_BUF = 4096


def canonical(text: str) -> list[Line]:
    """Return the canonical lines of a text."""
    return [logfmt.parse(line) for line in text.splitlines() if line.startswith("event_type=")]


def keys(line: Iterable[str]) -> list[str]:
    """Return the keys of a line that don't depend on what the other workers are doing."""
    return [key for key in line if not key.startswith("g_")]


# --- where lines go


@pytest.mark.parametrize("output", ["stdout", "stderr", "a/file.log"])
def test_lines_go_where_setting_says(output: str, tmp_path: Path) -> None:
    """`OUTPUT` is stdout, stderr or a file, and the other places stay empty."""
    (tmp_path / "a").mkdir()
    target = str(tmp_path / output) if "/" in output else output
    with gunicorn("plain_wsgi", tmp_path, OTEL_PYTHON_CANONICAL_OUTPUT=target) as server:
        places = {
            "stdout": server.stdout,
            "stderr": server.stderr,
            "a/file.log": tmp_path / "a/file.log",
        }
        for number in range(2):
            server.get("/ok/", X_Request_ID=f"r{number}")
        eventually(lambda: len(canonical(places[output].read_text())) == 2, server.report)
    found = {
        place: [line["req_id"] for line in canonical(file.read_text())]
        for place, file in places.items()
        if file.exists()
    }
    assert found.pop(output) == ["r0", "r1"]
    assert not any(found.values())


def test_lines_go_to_stdout_when_file_cannot_be_opened(tmp_path: Path) -> None:
    """A bad path costs neither the server nor the lines: one warning, and the default."""
    target = str(tmp_path / "no such directory" / "lines")
    with gunicorn("plain_wsgi", tmp_path, workers=2, OTEL_PYTHON_CANONICAL_OUTPUT=target) as server:
        server.ask("/ok/")
    [warning] = re.findall(r"\[WARNING\] (.*)", server.stderr.read_text())
    assert warning == (
        f"OTEL_PYTHON_CANONICAL_OUTPUT={target!r} can't be opened (No such file or directory); "
        "using the default, stdout"
    )
    assert "one logfmt line per request on stdout;" in server.report()


def test_line_is_same_event_when_format_is_json(tmp_path: Path) -> None:
    """`FORMAT=json`: one object a line, with the same keys in the same order, and numbers as such."""
    events = []
    for name in ("logfmt", "json"):
        directory = tmp_path / name
        directory.mkdir()
        with gunicorn("plain_wsgi", directory, OTEL_PYTHON_CANONICAL_FORMAT=name) as server:
            server.get("/ok/", X_Request_ID="same", Referer='http://a.example/"\\\u00e9')
            eventually(lambda: server.stdout.read_text().endswith("\n"), server.report)
        [text] = server.stdout.read_text().splitlines()
        events.append(json.loads(text) if name == "json" else logfmt.parse(text))
    plain, structured = events
    assert keys(structured) == keys(plain)
    constant = [key for key in plain if key in ("event_type", "req_id") or key.startswith("req_")]
    assert [structured[key] for key in constant] == [plain[key] for key in constant]
    assert isinstance(structured["resp_status"], int)
    assert isinstance(structured["resp_time"], float)
    assert structured["sampled"] is False


# --- hostile clients

HOSTILE = {
    "quotes": b'" req_id=forged "',
    "backslashes": rb"a\ \" \\ \n x=1 \u0041" + b"\\",
    "escape": b"a\x1b[2J\x1b[31mred\x07\x08",
    "controls": b"a\x01\x02\x0b\x0c\x1f\x7fb",
    "tab": b"a\tevent_type=timeout\tb",
    "line separators": "a\u2028event_type=request req_id=forged\u2029b\u0085c".encode(),
    "direction": "\u202egnp.exe\u2066\u200b\ufeff".encode(),
    "plain unicode": "Zo\u00eb \u4e16\u754c \U0001f600".encode(),
    "equals": b"a=b c=d resp_status=200",
    "looks empty": b'""',
    "number": b"-1e999",
}


def request_with(request_id: str, **headers: bytes) -> bytes:
    """Return a request whose headers are these bytes."""
    head = b"GET /ok/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: %s\r\n" % request_id.encode()
    for name, value in headers.items():
        head += name.replace("_", "-").encode() + b": " + value + b"\r\n"
    return head + b"\r\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_line_has_sent_value_when_header_is_hostile(site: Server, name: str) -> None:
    """One line, the keys of any other line, and in it exactly what was sent."""
    value = HOSTILE[name]
    request_id = f"hostile-{name.replace(' ', '-')}"
    before = len(site.stdout.read_bytes().split(b"\n"))
    answer = site.send(request_with(request_id, Referer=value, User_Agent=value))
    _, tame = site.ask("/ok/", Referer="r", User_Agent="u")
    raw = site.stdout.read_bytes().split(b"\n")
    assert len(raw) == before + 2
    assert not re.search(rb"[\x00-\x1f\x7f]", raw[-3])
    line = logfmt.parse(raw[-3].decode())
    assert line["resp_status"].encode() == answer.split()[1]
    if name in ("escape", "controls") and line["resp_status"] == "400":
        return  # newer Gunicorns refuse control characters
    assert line["req_id"] == request_id
    assert keys(line) == keys(tame)
    sent = value.decode().strip(" \t")
    assert (line["req_referrer"], line["req_user_agent"]) == (sent, sent)


def test_line_is_utf8_when_header_is_not(site: Server) -> None:
    """Bytes that are no UTF-8 are replaced, and the line can be read."""
    site.send(request_with("no-utf8", User_Agent=b"caf\xe9 \xff\xfe \xed\xa0\x80 end"))
    line = site.line_of("no-utf8")
    assert line["req_user_agent"].startswith("caf\ufffd ")
    assert line["req_user_agent"].endswith(" end")


@pytest.mark.parametrize(
    "header",
    [b"X: a\x00b", b"User-Agent: a\x00b", b"Referer: a\rforged=1", b"X-Request-ID: a\x00b"],
)
def test_one_line_when_gunicorn_refuses_hostile_header(site: Server, header: bytes) -> None:
    """NUL and CR don't get through HTTP; the refusal has its one line."""
    before = len(site.lines())
    answer = site.send(b"GET /ok/ HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n")
    [line] = site.wait_for_lines(before + 1)[before:]
    assert answer.startswith(b"HTTP/1.1 400")
    assert line["resp_status"] == "400"
    assert "forged" not in line


HOSTILE_PATHS = {
    "quotes": b'/a"b',
    "backslash": b"/a\\b\\",
    "equals": b"/a=b&req_id=forged",
    "escape": b"/a\x1b[2Jb",
    "nul": b"/a\x00b",
    "percent": b"/a%22%20req_id=forged%0Aevent_type=request",
    "unicode": "/caf\u00e9/\u4e16".encode(),
    "line separator": "/a\u2028b".encode(),
    "no UTF-8": b"/a\xff\xfe",
    "tab": b"/a\tb",
}


@pytest.mark.parametrize("name", HOSTILE_PATHS)
def test_line_has_sent_path_when_path_is_hostile(site: Server, name: str) -> None:
    """One line with the path as it was sent, be it answered or refused."""
    path = HOSTILE_PATHS[name]
    before = len(site.stdout.read_bytes().split(b"\n"))
    answer = site.send(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    eventually(
        lambda: len(site.stdout.read_bytes().split(b"\n")) > before,
        lambda: f"no line\n{site.report()}",
    )
    raw = site.stdout.read_bytes().split(b"\n")
    assert len(raw) == before + 1
    line = logfmt.parse(raw[-2].decode())
    assert line["resp_status"].encode() == answer.split()[1]
    assert line["req_id"] != "forged"
    assert not re.search(rb"[\x00-\x1f\x7f]", raw[-2])
    sent = path.decode("utf-8", "replace")
    # Newer Gunicorns refuse most of these before there is a path; older ones drop a tab.
    assert line.get("req_path", sent) in (sent, sent.replace("\t", ""))


def long_headers(unit: bytes) -> dict[str, bytes]:
    """Return headers of about 7 KB each, as much as Gunicorn lets through."""
    return {name: unit * (7000 // len(unit)) for name in ("Referer", "User_Agent")}


@pytest.mark.parametrize(
    "unit",
    [b"plain ", b'"', b"\\", b"\t\\", "\u2028".encode(), "\u4e16".encode(), b"\xff", b"a=b "],
    ids=["words", "quotes", "backslashes", "tabs", "separators", "wide", "invalid", "pairs"],
)
def test_line_fits_pipe_when_headers_are_long(site: Server, unit: bytes) -> None:
    """7 KB of anything: at most 4096 bytes, nothing protected lost, `truncated=true`."""
    request_id = f"long-{unit.hex()}"
    site.send(request_with(request_id, **long_headers(unit)))
    line = site.line_of(request_id)
    _, tame = site.ask("/ok/", Referer="r", User_Agent="u")
    [raw] = [text for text in site.stdout.read_bytes().split(b"\n") if request_id.encode() in text]
    assert len(raw) + 1 <= PIPE_BUF
    assert line["truncated"] == "true"
    assert keys(line) == [*keys(tame), "truncated"]
    assert re.search(r"\.\.\.\[\+\d+\]$", line["req_user_agent"])
    sent = (unit * (7000 // len(unit))).decode("utf-8", "replace")
    assert sent.strip(" \t").startswith(line["req_user_agent"].partition("...[+")[0])


def test_line_fits_pipe_when_app_sets_many_facts(site: Server) -> None:
    """300 facts of the app's give way; what is protected stays."""
    _, line = site.ask("/many-facts/")
    _, tame = site.ask("/ok/")
    [raw] = [t for t in site.stdout.read_bytes().split(b"\n") if line["req_id"].encode() in t]
    assert len(raw) + 1 <= PIPE_BUF
    assert line["truncated"] == "true"
    assert [key for key in line if key in PROTECTED] == [key for key in tame if key in PROTECTED]


# --- pipes


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Make a pipe and close what is left of it in the end."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for descriptor in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def read_until(reader: int, text: bytes, server: Server) -> str:
    """Return what is in the pipe once a line with this text is there."""
    os.set_blocking(reader, False)
    received: list[bytes] = []

    def are_there() -> bool:
        with contextlib.suppress(BlockingIOError):
            received.append(os.read(reader, 65536))
        _, found, after = b"".join(received).partition(text)
        return bool(found) and b"\n" in after

    eventually(are_there, lambda: f"{received}\n{server.report()}")
    return b"".join(received).decode()


def test_lines_of_many_workers_are_whole_when_they_share_a_pipe(tmp_path: Path) -> None:
    """Four workers and long lines on one pipe: none is torn, mixed or missing."""
    threads, each = 4, 75
    received: list[bytes] = []

    def read_all(descriptor: int) -> None:
        while chunk := os.read(descriptor, 65536):
            received.append(chunk)

    with pipe() as (reader, writer):
        listener = threading.Thread(target=read_all, args=(reader,))
        listener.start()
        with gunicorn("plain_wsgi", tmp_path, workers=4, stdout=writer) as server:

            def ask(thread: int) -> None:
                for number in range(each):
                    server.get(
                        "/ok/",
                        X_Request_ID=f"t{thread}-{number}",
                        User_Agent=str(thread) * (1000 + 37 * number),
                        Referer=f"{number} " * (500 + number),
                    )

            clients = [threading.Thread(target=ask, args=(n,)) for n in range(threads)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
        os.close(writer)
        listener.join()
    lines = b"".join(received).decode().splitlines(keepends=True)
    assert all(line.endswith("\n") and len(line.encode()) <= PIPE_BUF for line in lines)
    parsed = [logfmt.parse(line) for line in lines]
    assert {next(iter(line)) for line in parsed} == {"event_type"}
    assert len({tuple(line)[-1] for line in parsed} - {"truncated"}) <= 1
    assert Counter(line["req_id"] for line in parsed) == Counter(
        f"t{thread}-{number}" for thread in range(threads) for number in range(each)
    )
    assert all(
        set(line["req_user_agent"].partition("...[")[0]) == {line["req_id"][1]} for line in parsed
    )
    assert len({line["g_pid"] for line in parsed}) > 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_requests_are_served_when_reader_of_pipe_is_gone(when: str, tmp_path: Path) -> None:
    """A broken stdout costs lines, not requests, and is reported once."""
    with pipe() as (reader, writer):
        if when == "before":
            os.close(reader)
        with gunicorn("plain_wsgi", tmp_path, stdout=writer, expects_report=True) as server:
            assert server.get("/ok/").status == 200
            if when == "after":
                assert len(canonical(read_until(reader, b"req_id=", server))) == 1
                os.close(reader)
            for _ in range(5):
                assert server.get("/ok/").status == 200
            server.wait_for("otel-canonical failed while writing a line to stdout")
            assert server.process.poll() is None
    assert server.report().count("otel-canonical failed") == 1
    assert "BrokenPipeError" in server.report()


def test_requests_are_served_when_nobody_reads_pipe(tmp_path: Path) -> None:
    """A full stdout costs lines, not requests; what is read later is whole, and the rest is reported."""
    with pipe() as (reader, writer):
        size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BUF)
        with gunicorn("plain_wsgi", tmp_path, stdout=writer, expects_report=True) as server:
            served = 0
            while "otel-canonical failed" not in server.report():
                assert server.get("/ok/", X_Request_ID=f"r{served}").status == 200
                served += 1
                assert served < 100, server.report()
            held = read_until(reader, b"req_id=r0 ", server)
            for request_id in ("room", "more-room"):
                assert server.get("/ok/", X_Request_ID=request_id).status == 200
            later = read_until(reader, b"req_id=more-room ", server)
    held_ids = [line["req_id"] for line in canonical(held)]
    assert held.endswith("\n")
    assert 0 < len(held.encode()) <= size
    assert held_ids == [f"r{number}" for number in range(len(held_ids))]
    assert len(held_ids) < served
    # A line before these is of a request that was being answered when the pipe was emptied.
    later_ids = [line["req_id"] for line in canonical(later)]
    assert later_ids[-2:] == ["room", "more-room"]
    assert len(later.splitlines()) == len(later_ids) <= 3
    assert server.report().count("otel-canonical failed while writing a line to stdout") == 1


# --- the line's output by itself


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, BaseException | None]]:
    """What LineOutput reports."""
    seen: list[tuple[str, BaseException | None]] = []
    monkeypatch.setattr(output, "report", lambda doing, error=None: seen.append((doing, error)))
    return seen


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a full output up at once."""
    monkeypatch.setattr(output, "PATIENCE_MS", 0)


@contextlib.contextmanager
def output_to(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[LineOutput]:
    """Make a LineOutput whose standard output is this descriptor."""
    monkeypatch.setitem(_STANDARD_OUTPUTS, "stdout", descriptor)
    output = LineOutput("stdout")
    try:
        yield output
    finally:
        if output._fd != descriptor:
            os.close(output._fd)
        if output._socket is not None:
            output._socket.close()


@pytest.mark.usefixtures("no_patience")
def test_full_pipe_drops_whole_lines_and_counts_them(
    monkeypatch: pytest.MonkeyPatch, reports: list[tuple[str, BaseException | None]]
) -> None:
    """What is in the pipe is whole, and `written` and `dropped` say how many lines are not."""
    line = b"x" * 1000 + b"\n"
    with pipe() as (reader, writer):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BUF)
        with output_to(writer, monkeypatch) as output:
            for _ in range(6):
                output.write(line)
            assert os.read(reader, 65536) == line * output.written
            assert (output.written, output.dropped) == (4, 2)
            output.write(line)
            assert os.read(reader, 65536) == line
    # One text for all, or else the fence would take each for something new.
    assert [doing for doing, _ in reports] == ["writing a line to stdout"] * 2
    assert all(isinstance(error, BlockingIOError) for _, error in reports)


@pytest.mark.usefixtures("reports")
def test_only_first_line_waits_when_pipe_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that hangs holds one request up for a moment, not every one; when it is back, again one."""
    waited_ms: list[int] = []

    class Poll:
        def register(self, descriptor: int, events: int) -> None:
            """Any descriptor will do."""

        def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
            waited_ms.append(timeout_ms)
            return []

    monkeypatch.setattr(select, "poll", Poll)
    line = b"x" * (PIPE_BUF - 1) + b"\n"
    with pipe() as (reader, writer):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BUF)
        with output_to(writer, monkeypatch) as output:
            for _ in range(2):
                for _ in range(4):
                    output.write(line)
                assert os.read(reader, 65536) == line
    assert waited_ms == [PATIENCE_MS, 0, 0] * 2


def test_stream_of_app_stays_blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe is opened anew for us: what others write there doesn't fail because of us."""
    with pipe() as (_, writer), output_to(writer, monkeypatch) as output:
        assert os.get_blocking(writer)
        assert not os.get_blocking(output._fd)
        assert not os.get_inheritable(output._fd)


def test_line_after_a_torn_one_is_whole(
    tmp_path: Path, reports: list[tuple[str, BaseException | None]]
) -> None:
    """A disk that fills up in the middle of a line spoils this line only, not the next one."""
    file = tmp_path / "lines"
    output = LineOutput(str(file))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # SIGXFSZ is ignored by Python
    try:
        output.write(b"first\n")
        output.write(b"second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    output.write(b"third\n")
    assert file.read_bytes().splitlines() == [b"first", b"seco", b"third"]
    assert (output.written, output.dropped) == (2, 1)
    assert len(reports) == 1


@pytest.mark.usefixtures("no_patience")
def test_socket_that_nobody_reads_costs_lines_only(
    monkeypatch: pytest.MonkeyPatch, reports: list[tuple[str, BaseException | None]]
) -> None:
    """Under systemd standard output is a socket; a journal that hangs must not hang a worker."""
    ours, theirs = socket.socketpair()
    line = b"y" * (PIPE_BUF - 1) + b"\n"
    with ours, theirs, output_to(ours.fileno(), monkeypatch) as output:
        while not output.dropped and output.written < 10_000:
            output.write(line)
        assert output.dropped == 1
        assert os.get_blocking(ours.fileno())
        received = b""
        while len(received) < len(line) * output.written:
            received += theirs.recv(65536)
        assert received == line * output.written
        theirs.close()
        output.write(line)  # and no SIGPIPE
    assert (output.dropped, len(reports)) == (2, 2)
    assert isinstance(reports[-1][1], BrokenPipeError)


def test_file_stays_in_use_when_it_cannot_be_reopened(
    tmp_path: Path, reports: list[tuple[str, BaseException | None]]
) -> None:
    """A rotation that removes the directory costs no line."""
    directory = tmp_path / "logs"
    directory.mkdir()
    output = LineOutput(str(directory / "lines"))
    moved = tmp_path / "moved"
    directory.rename(moved)
    output.reopen()
    output.write(b"still here\n")
    assert (moved / "lines").read_bytes() == b"still here\n"
    assert [type(error) for _, error in reports] == [FileNotFoundError]
    directory.mkdir()
    output.reopen()
    output.write(b"there again\n")
    assert (directory / "lines").read_bytes() == b"there again\n"


# --- what the operator chose


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every choice made that isn't the default."""
    directory: Path = tmp_path_factory.mktemp("chosen")
    with gunicorn(
        "every_kind",
        directory,
        SITE_DIRECTORY=str(directory),
        OTEL_PYTHON_CANONICAL_EXCLUDED_URLS="^/pid/$,/item/health",
        OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS="req_user_agent, g_*,app_pl?n",
        OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID="true",
        OTEL_PYTHON_CANONICAL_QUERY_STRING="true",
        OTEL_PYTHON_CANONICAL_REDACTED_NAMES="slug, membership",
    ) as server:
        yield server


def test_no_line_when_url_is_excluded(chosen: Server) -> None:
    """Excluded are the URLs whose path matches, and no others."""
    before = len(chosen.lines())
    paths = ("/pid/", "/item/health/", "/item/health-2/?q=1", "/item/well/?q=/pid/", "/ok/")
    for number, path in enumerate(paths):
        assert chosen.get(path, X_Request_ID=f"excluded-{number}").status == 200
    lines = chosen.wait_for_lines(before + 2)[before:]
    assert [line["req_id"] for line in lines] == ["excluded-3", "excluded-4"]


def test_no_field_when_glob_excludes_it(chosen: Server) -> None:
    """A glob hides what it matches, be it ours or the app's, and nothing beside it."""
    _, line = chosen.ask("/facts/?t=x", User_Agent="hidden", Referer="shown")
    assert not [key for key in line if key.startswith("g_")]
    assert "req_user_agent" not in line
    assert "app_plan" not in line
    assert (line["req_referrer"], line["app_seen"]) == ("shown", "x")


@pytest.mark.parametrize("path", ["/ok/", "/no-such-page/", "/raises/", "/stream/"])
def test_response_has_request_id_when_asked_for(chosen: Server, path: str) -> None:
    """The id of the line is the header of the answer, whether it was sent or made."""
    answer, line = chosen.ask(path)
    assert answer.headers["X-Request-ID"] == line["req_id"]
    before = len(chosen.lines())
    answer = chosen.get(path)
    [line] = chosen.wait_for_lines(before + 1)[before:]
    assert answer.headers["X-Request-ID"] == line["req_id"]
    assert re.fullmatch("[0-9a-f]{32}", line["req_id"])


def test_response_keeps_request_id_of_app(tmp_path: Path) -> None:
    """A header that the app has set is left alone, and not doubled."""
    with gunicorn(
        "plain_wsgi", tmp_path, OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID="true"
    ) as server:
        answer = server.send(
            b"GET /own-id/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: in\r\n\r\n"
        )
        server.wait_for_lines(1)
    assert re.findall(rb"(?i)x-request-id: (.*)\r", answer) == [b"the-app-s-own"]


def test_response_has_no_request_id_by_default(site: Server) -> None:
    """Nobody asked for a header."""
    answer, _ = site.ask("/ok/")
    assert "X-Request-ID" not in answer.headers


def test_query_string_is_redacted_when_asked_for(chosen: Server) -> None:
    """Secrets by their usual names and by the operator's; the rest as it was sent."""
    _, line = chosen.ask("/ok/?a=1&password=hunter2&Membership=gold&b=%20x&api_key=k")
    assert line["req_query"] == (
        "a=1&password=[redacted]&Membership=[redacted]&b=%20x&api_key=[redacted]"
    )


def test_query_string_is_nowhere_by_default(site: Server) -> None:
    """Neither as a field nor behind the path."""
    _, line = site.ask("/ok/?needle=1")
    assert "req_query" not in line
    assert not [value for value in line.values() if "needle" in value]


def test_query_string_is_nowhere_when_request_is_refused(site: Server) -> None:
    """Nor in the message of the exception with which Gunicorn refuses the request."""
    before = len(site.lines())
    site.send(b"GET /ok/?needle=1\r\nHost: localhost\r\n\r\n")
    [line] = site.wait_for_lines(before + 1)[before:]
    assert not [value for value in line.values() if "needle" in value]


def test_path_hides_secret_of_url_pattern(site: Server) -> None:
    """Django's own password-reset link carries a token: the path hides it, the route keeps the shape."""
    _, line = site.ask("/reset/MQ/c8f3a1-0123456789abcdef/")
    assert line["req_path"] == "/reset/MQ/[redacted]/"
    assert line["req_route"] == "reset/<uidb64>/<token>/"


def test_path_hides_secret_when_it_is_sent_as_raw_utf8(site: Server) -> None:
    """Gunicorns that let such a path through must not make it unrecognisable."""
    before = len(site.lines())
    site.send("GET /reset/MQ/t\u00f6k\u00e9n/ HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    [line] = site.wait_for_lines(before + 1)[before:]
    assert line.get("req_path", "/reset/MQ/[redacted]/") == "/reset/MQ/[redacted]/"


def test_path_hides_what_operator_names(chosen: Server) -> None:
    """`REDACTED_NAMES` holds for parameters of the URL, too."""
    _, line = chosen.ask("/item/private-page/")
    assert (line["req_path"], line["req_route"]) == ("/item/[redacted]/", "item/<slug:slug>/")


# --- what proxies say


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X_Correlation_ID": "c", "X_Request_ID": "r"}, "r"),
        ({"Request_ID": "q", "X_Correlation_ID": "c"}, "c"),
        ({"X_Varnish": "32770 5", "Request_ID": "q"}, "q"),
        ({"X_Amzn_Trace_Id": "Root=1-67891233-abcdef", "X_Varnish": "32770"}, "32770"),
        ({"X_Amzn_Trace_Id": "Root=1-67891233-abcdef"}, "Root=1-67891233-abcdef"),
        ({"X_Request_ID": "no spaces", "X_Correlation_ID": "good"}, "good"),
        ({"X_Request_ID": "r" * 128}, "r" * 128),
    ],
)
def test_request_id_is_first_well_formed_one(
    site: Server, headers: dict[str, str], expected: str
) -> None:
    """The more telling header first; one that is malformed doesn't count."""
    before = len(site.lines())
    site.get("/ok/", **headers)
    [line] = site.wait_for_lines(before + 1)[before:]
    assert line["req_id"] == expected


@pytest.mark.parametrize(
    "sent", ["", " ", "r" * 129, 'a"b', "a b", "a\tb", "a\x1bb", "a;b", "\u00e9", "a,b", "<x>"]
)
def test_request_id_is_new_when_sent_one_is_malformed(site: Server, sent: str) -> None:
    """What isn't 1 to 128 harmless characters is replaced by 32 hex digits."""
    before = len(site.lines())
    site.get("/ok/", X_Request_ID=sent)
    [line] = site.wait_for_lines(before + 1)[before:]
    assert re.fullmatch("[0-9a-f]{32}", line["req_id"])


@pytest.mark.parametrize(
    ("header", "shape"),
    [
        ("X_Request_Start", "t={:.6f}"),
        ("X_Request_Start", "{:.3f}"),
        ("X_Request_Start", "t={0:.0f}000"),
        ("X_Queue_Start", "{0:.0f}000000"),
        ("X_Queue_Start", "{0:.0f}000000000"),
    ],
    ids=["t=s", "s", "ms", "us", "ns"],
)
def test_queue_time_is_time_since_proxy_saw_request(site: Server, header: str, shape: str) -> None:
    """Whatever unit the proxy writes, the line has seconds."""
    long_ago_s = 100
    _, line = site.ask("/ok/", **{header: shape.format(time.time() - long_ago_s)})
    assert long_ago_s - 1 <= float(line["req_queue_time"]) <= 2 * long_ago_s


def test_queue_time_is_none_when_clocks_differ_a_little(site: Server) -> None:
    """A proxy whose clock runs ahead gives no negative time."""
    _, line = site.ask("/ok/", X_Request_Start=f"t={time.time() + 3}")
    assert float(line["req_queue_time"]) == 0


@pytest.mark.parametrize(
    "sent", ["", "t=", "soon", "nan", "inf", "-5", "0", "12", "t=9e99", "1e400"]
)
def test_no_queue_time_when_header_is_nonsense(site: Server, sent: str) -> None:
    """A header that says nothing leaves nothing."""
    answer, line = site.ask("/ok/", X_Request_Start=sent)
    assert answer.status == 200
    assert "req_queue_time" not in line


def test_report_names_what_was_lost() -> None:
    """The reports of LineOutput go through the fence, so they are limited by its rules."""
    assert report is internal_errors.report
