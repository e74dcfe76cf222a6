"""Lines on stdout, stderr, a file or a pipe: always whole, and never at the cost of a request."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
from collections import Counter
from pathlib import Path

import pytest

from otel_canonical.event import logfmt
from tests.support.lines import PIPE_BUF, canonical, keys, pipe
from tests.support.raw_requests import send
from tests.support.servers import Line, Server, eventually, gunicorn


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
    constant = [key for key in plain if key == "event_type" or key.startswith("req_")]
    assert [structured[key] for key in constant] == [plain[key] for key in constant]
    assert isinstance(structured["resp_status"], int)
    assert isinstance(structured["resp_time"], float)


def test_line_has_chosen_fields_in_chosen_order(tmp_path: Path) -> None:
    """`FIELDS=`: of requests that were served and of those that were lost."""
    wanted = "resp_time,req_path,lost_cause,req_id"
    with gunicorn("stuck", tmp_path, OTEL_PYTHON_CANONICAL_FIELDS=wanted) as server:
        server.get("/ok/", X_Request_ID="served")
        send(server, "/exits-hard/")

        def shown() -> list[Line]:
            lines = server.stdout.read_text().splitlines()
            return [logfmt.parse(line) for line in lines if line.startswith("ts=")]

        # Not `server.lines()`, which knows one order.
        eventually(lambda: len(shown()) == 2, server.report)
        served, lost = shown()
    assert list(served) == ["ts", "event_type", "resp_time", "req_path", "req_id"]
    assert list(lost) == ["ts", "event_type", "resp_time", "req_path", "lost_cause", "req_id"]


def read_until(reader: int, text: bytes, server: Server) -> str:
    """Return what is in the pipe once a line with this text is there."""
    os.set_blocking(reader, False)
    received: list[bytes] = []

    def are_there() -> bool:
        with contextlib.suppress(BlockingIOError):
            received.append(os.read(reader, 65536))
        _, found, after = b"".join(received).partition(text)
        return bool(found) and b"\n" in text + after

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
    assert {tuple(line)[:2] for line in parsed} == {("ts", "event_type")}
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
            held = read_until(reader, b"req_id=r0\n", server)
            for request_id in ("next", "after-next"):
                assert server.get("/ok/", X_Request_ID=request_id).status == 200
            later = read_until(reader, b"req_id=after-next\n", server)
    held_ids = [line["req_id"] for line in canonical(held)]
    assert held.endswith("\n")
    assert 0 < len(held.encode()) <= size
    assert held_ids == [f"r{number}" for number in range(len(held_ids))]
    assert len(held_ids) < served
    # A line before these is of a request that was being answered when the pipe was emptied.
    later_ids = [line["req_id"] for line in canonical(later)]
    assert later_ids[-2:] == ["next", "after-next"]
    assert len(later.splitlines()) == len(later_ids) <= 3
    assert server.report().count("otel-canonical failed while writing a line to stdout") == 1
