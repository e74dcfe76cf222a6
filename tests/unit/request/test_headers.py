"""Request ids and queue times out of a proxy's headers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_canonical.event.bounds import limits
from otel_canonical.event.redaction import MARGIN
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.headers import (
    CLOCK_SKEW_S,
    ID_HEADERS,
    LONGEST_QUEUE_S,
    QUEUE_HEADERS,
    as_meant,
    incoming_id,
    queue_time_s,
    without_port,
)
from otel_canonical.request.progress import Outputs
from otel_canonical.settings import Settings

WELL_FORMED = re.compile(r"[A-Za-z0-9._:=+/-]{1,128}")
#: A moment in 2025, in seconds since the epoch.
NOW_S = 1_750_000_000.0

HEADER_TEXTS = st.one_of(
    st.text(max_size=200),
    st.floats().map(str),
    st.integers(-(10**25), 10**25).map("t={}".format),
    st.text("0123456789.,te=+-_ infa", max_size=30),
)


@pytest.mark.parametrize("name", ID_HEADERS)
def test_id_is_incoming_one_when_well_formed(name: str) -> None:
    """Each of the headers is heeded, when it is the only one."""
    assert incoming_id({name: "Root=1-67891233-abc/d+e:f.g_h"}) == "Root=1-67891233-abc/d+e:f.g_h"


def test_most_telling_header_wins_when_several_are_sent() -> None:
    """X-Request-ID before the others, in their order; a malformed one counts as not sent."""
    headers = {name: name.lower() for name in ID_HEADERS}
    for name in ID_HEADERS:
        assert incoming_id(headers) == name.lower()
        headers[name] = "not well formed"
    assert incoming_id(headers) is None


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        " ",
        "a b",
        "a\n",
        "a\r\nb",
        "a\x00",
        'a"',
        "a;b",
        "é",
        "a" * 129,
        "\x1b[31m",
        "a,b",
        "a%0a",
    ],
)
def test_id_is_not_taken_over_when_malformed(malformed: str) -> None:
    """What could break a line or a terminal is not taken over."""
    assert incoming_id({"X-REQUEST-ID": malformed}) is None


def test_longest_id_is_taken_over() -> None:
    """128 characters are an id, 129 are none."""
    assert incoming_id({"X-REQUEST-ID": "a" * 128}) == "a" * 128


def test_ids_differ_when_requests_bring_none() -> None:
    """Two requests have two ids, and two traces, each of the digits that it must have."""
    log = CanonicalLog(
        Settings(),
        RootFactory(None, str),
        Outputs(lambda event: b"", lambda event, line, slot: None),
    )
    found: set[str] = set()
    for _ in range(1000):
        scope = log.open("GET", "/", {})
        assert scope is not None
        found |= {scope.request_id, scope.root.trace_id, scope.root.span_id}
        log.close(scope)
    assert len(found) == 3000
    assert {len(digits) for digits in found} == {16, 32}
    assert all(re.fullmatch("[0-9a-f]+", digits) for digits in found)


@given(st.dictionaries(st.sampled_from(ID_HEADERS), st.text(max_size=140)))
def test_id_is_always_well_formed(headers: dict[str, str]) -> None:
    """Whatever a client sends, the id is one that needs no quoting."""
    found = incoming_id(headers)
    assert found is None or WELL_FORMED.fullmatch(found)


@pytest.mark.parametrize("name", QUEUE_HEADERS)
@pytest.mark.parametrize(
    "note",
    [
        "1749999998.5",
        "t=1749999998.5",
        " t=1749999998.5 ",
        "t=1749999998.500",
        "1749999998500",
        "t=1749999998500",
        "1749999998500000",
        "t=1749999998500000",
        "1749999998500000000",
        "t=1749999998.5, t=1749999999",
    ],
)
def test_queue_time_is_read_in_every_unit(name: str, note: str) -> None:
    """Seconds (nginx), milliseconds (Heroku), microseconds (Apache), nanoseconds; `t=` or not."""
    assert queue_time_s({name: note}, NOW_S) == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize(
    "note",
    [
        *("", "t=", "now", "t=now", "nan", "inf", "-inf", "1e400", "-1", "0", "1", "t=1", "12:30"),
        str(NOW_S + 2 * CLOCK_SKEW_S),
        str(NOW_S - 2 * LONGEST_QUEUE_S),
        str(NOW_S * 1e12),
    ],
)
def test_no_queue_time_when_note_is_nonsense(note: str) -> None:
    """What is no moment of the last hour is ignored."""
    assert queue_time_s({"X-REQUEST-START": note}, NOW_S) is None


def test_no_queue_time_when_nobody_notes_it() -> None:
    """Without a proxy nothing is known."""
    assert queue_time_s({}, NOW_S) is None


def test_queue_time_is_zero_when_proxys_clock_runs_ahead() -> None:
    """A little skew is no negative time."""
    assert queue_time_s({"X-REQUEST-START": str(NOW_S + CLOCK_SKEW_S / 2)}, NOW_S) == 0.0


def test_second_header_is_read_when_first_is_nonsense() -> None:
    """Each header has its chance."""
    headers = {"X-REQUEST-START": "nonsense", "X-QUEUE-START": str(NOW_S - 2)}
    assert queue_time_s(headers, NOW_S) == 2.0
    assert queue_time_s({**headers, "X-REQUEST-START": "1"}, NOW_S) == 2.0


@given(HEADER_TEXTS)
def test_queue_time_is_sane_whatever_is_sent(note: str) -> None:
    """Never an exception, and never a time outside of the last hour."""
    waited_s = queue_time_s({"X-REQUEST-START": note}, NOW_S)
    assert waited_s is None or 0 <= waited_s <= LONGEST_QUEUE_S


def test_queue_time_has_microseconds() -> None:
    """What a clock of this date can tell; more digits would be noise."""
    assert queue_time_s({"X-REQUEST-START": "1700000000"}, 1700000000 + 3 * 2**-22) == 1e-06


def test_host_of_the_greatest_length_is_whole() -> None:
    """With the longest port; what is longer is no host, and is cut."""
    longest = "a" * 255
    assert without_port(f"{longest}:65535") == longest
    assert without_port("a" * 1000) == "a" * 261
    assert without_port("[::1]:8000") == without_port("[::1]") == "::1"


def test_text_is_decoded_as_far_as_it_may_be_shown() -> None:
    """Of characters that have four bytes each; no more of an endless one is looked at."""
    text = "\U0001f600" * limits.value
    assert as_meant(text.encode().decode("latin-1")) == text
    assert len(as_meant("\xff" * 10**6)) <= 4 * limits.value + MARGIN
    assert as_meant("abc") == "abc"
