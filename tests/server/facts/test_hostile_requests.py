"""Requests of hostile clients: one line each, with what was sent, and nothing forged."""

from __future__ import annotations

import re

import pytest

from otel_canonical.event import logfmt
from otel_canonical.event.fields import PROTECTED
from tests.support.lines import PIPE_BUF, keys
from tests.support.servers import Server, eventually

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
