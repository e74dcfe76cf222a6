"""What a proxy says of a request is on its line: the id, and since when it waits."""

from __future__ import annotations

import re
import time

import pytest

from tests.support.servers import Server


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
    _, line = site.ask("/ok/", X_Request_Start=f"t={time.time() + 4.9}")
    assert float(line["req_queue_time"]) == 0


@pytest.mark.parametrize(
    "sent", ["", "t=", "soon", "nan", "inf", "-5", "0", "12", "t=9e99", "1e400"]
)
def test_no_queue_time_when_header_is_nonsense(site: Server, sent: str) -> None:
    """A header that says nothing leaves nothing."""
    answer, line = site.ask("/ok/", X_Request_Start=sent)
    assert answer.status == 200
    assert "req_queue_time" not in line
