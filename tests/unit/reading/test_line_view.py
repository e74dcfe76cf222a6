"""What `tail` says of a line: a headline, and below it only what is worth saying."""

from __future__ import annotations

import pytest

from otel_canonical.event import logfmt
from otel_canonical.reading.line_view import view
from otel_canonical.reading.screen import cells, fold, rows
from tests.support.reading import SAMPLE

HEAD = "ts=2026-11-26T16:20:37.262Z event_type="
#: Each as it is written, and the rows of plain text that are shown of it.
VIEWS = [
    (
        HEAD + "request req_method=GET req_path=/ok/ resp_status=200 resp_time=0.0047",
        ["16:20:37.262  200  GET /ok/  4.7 ms"],
    ),
    (
        HEAD + "request req_method=GET req_path=/products/ resp_status=200 resp_time=0.0305 "
        'db_queries=81 db_time=0.001 db_fetch_time=0.0006 db_n1="SELECT … WHERE id = ?" db_n1_count=80 '
        "db_n1_time=0.0012 db_n1_loc=catalog/views.py:42:product_list",
        [
            "16:20:37.262  200  GET /products/  30.5 ms",
            "              81 queries 1.6 ms · 80x SELECT … WHERE id = ?",
            "              at catalog/views.py:42:product_list",
        ],
    ),
    (
        HEAD + "request req_method=GET req_path=/products/ resp_status=200 resp_time=0.0305 "
        "db_queries=81 db_time=0.0016 db_dup_queries=80",
        [
            "16:20:37.262  200  GET /products/  30.5 ms",
            "              81 queries 1.6 ms · 80 of them repeated",
        ],
    ),
    (
        HEAD + "request req_method=GET req_path=/broken/ resp_status=500 resp_time=0.003 "
        'exc_type=NoRate exc_msg="no rate for \\"XTS\\": ask" exc_loc=catalog/views.py:132:broken '
        "exc_cause_loc=catalog/loyalty.py:20:rate_of exc_template=a.html:5",
        [
            "16:20:37.262  500  GET /broken/  3.0 ms",
            '              NoRate: no rate for "XTS": ask',
            "              at catalog/loyalty.py:20:rate_of, from catalog/views.py:132:broken, in a.html:5",
        ],
    ),
    (
        HEAD + "timeout req_method=GET req_path=/slow/ resp_status=500 resp_time=30.851 "
        "timeout_loc=v.py:1:slow timeout_cause_loc=catalog/warehouse.py:12:wait timeout_seen=29.5 "
        'resp_blocked=30.84 g_t_count=4 g_t_active=4 g_t_waiting=7 g_open="3*slow/ 1*ok/"',
        [
            "16:20:37.262  ✗✗✗  GET /slow/  timeout 30.9 s",
            "              stuck at catalog/warehouse.py:12:wait, from v.py:1:slow (seen after 29.5 s)",
            "              blocked 30.8 s · pool 4 of 4 busy · 7 waiting · open: 3*slow/ 1*ok/",
        ],
    ),
    (
        HEAD + "lost req_method=GET req_path=/export.csv resp_time=4.0 lost_cause=SIGKILL",
        ["16:20:37.262  ✗✗✗  GET /export.csv  lost, SIGKILL 4.0 s"],
    ),
    (
        HEAD
        + "lost req_method=GET req_path=/c/ resp_time=4.0 lost_cause=SIGSEGV lost_loc=a.py:1:f "
        "lost_cause_loc=b.py:2:g",
        [
            "16:20:37.262  ✗✗✗  GET /c/  lost, SIGSEGV 4.0 s",
            "              stuck at b.py:2:g, from a.py:1:f",
        ],
    ),
    (
        HEAD + "slow req_method=GET req_path=/slow/ resp_time=1.0 slow_loc=v.py:1:slow "
        'slow_cause_loc=w.py:2:wait slow_stack="w.py:2:wait < v.py:1:slow"',
        [
            "16:20:37.262  ...  GET /slow/  running 1.0 s",
            "              at w.py:2:wait, from v.py:1:slow",
            "              w.py:2:wait < v.py:1:slow",
        ],
    ),
    (
        HEAD + 'slow resp_time=1.0 slow_loc=b.py:2:b slow_stack="a < b < c < d < e < f < g < h"',
        [
            "16:20:37.262  ...    running 1.0 s",
            "              at b.py:2:b",
            "              a < b < c < d < e < f < 2 more",
        ],
    ),
    (
        HEAD + "partial_failure req_id=abc exc_type=URLError exc_cause_loc=r.py:25:ask",
        [
            "16:20:37.262  ~~~  of request abc  survived",
            "              URLError",
            "              at r.py:25:ask",
        ],
    ),
    (
        HEAD + "pool g_w_count=4 g_w_active=3 g_t_count=16 g_t_active=5 g_backlog=2 "
        "g_utilization=0.3125 g_w_died_SIGKILL=1 g_lines_dropped=3",
        [
            "16:20:37.262  pool  3 of 4 workers busy · 5 of 16 slots busy · 31 % busy since the last · "
            "2 in the backlog · 1 died: SIGKILL · 3 lines dropped"
        ],
    ),
    (
        HEAD + "request req_method=GET req_path=/x resp_status=200 resp_time=0.5 db_queries=2 "
        "db_time=0.3 db_slowest_time=0.29 db_slowest=SELECT db_slowest_loc=a.py:1:f http_calls=1 "
        "http_time=0.001 http_errors=1 resp_cpu_wait=0.12 gc_time=0.11 req_queue_time=0.06 imports=12 "
        "mem_growth=2000000 log_errors=1 log_warnings=2 client_gone=true truncated=true",
        [
            "16:20:37.262  200  GET /x  500 ms",
            "              database 60 % of the time: 2 queries 300 ms",
            "              slowest query 290 ms: SELECT",
            "              at a.py:1:f",
            "              1 outgoing call 1.0 ms, 1 failed · waited for a CPU 120 ms · garbage "
            "collection 110 ms · queued 60.0 ms before Gunicorn · client gone · 12 modules imported · "
            "memory +2.0 MB · 1 error and 2 warnings logged · line shortened",
        ],
    ),
    (
        HEAD + "request req_method=GET req_path=/late/ resp_time=31 deadline_exceeded=true "
        "timeout_loc=v.py:1:f timeout_cause_loc=v.py:1:f timeout_seen=29.5",
        [
            "16:20:37.262  ---  GET /late/  31.0 s",
            "              past its deadline at v.py:1:f (seen after 29.5 s)",
        ],
    ),
]


def plain(line: str, width: int | None = None) -> list[str]:
    """Return the rows that are shown of a line, without their styles."""
    shown = view({**logfmt.parse(line)})
    return ["".join(text for text, _ in row).rstrip() for row in rows(shown, width)]


@pytest.mark.parametrize(("line", "expected"), VIEWS)
def test_each_kind_of_line_has_its_shape(line: str, expected: list[str]) -> None:
    """The whole view: what is said, in which order, and nothing else."""
    assert plain(line) == expected


@pytest.mark.parametrize("width", [40, 80, 200])
def test_views_are_folded_to_the_width(width: int) -> None:
    """No row is wider than the terminal, no word is lost, times stand at the right margin."""
    for line in SAMPLE.read_text().splitlines():
        folded, whole = plain(line, width), plain(line)
        assert max(map(cells, folded)) <= width
        if "event_type=request" in line:
            assert cells(folded[0]) == width
        assert "".join("".join(folded).split()).replace("pool", "") != ""
        # A word that has no room in a row is cut, and all of it is there.
        assert sorted("".join("".join(folded).split())) == sorted("".join("".join(whole).split()))


def test_wide_characters_take_two_columns() -> None:
    """East Asian text is folded by its width, not by its number of characters."""
    folded = ["".join(text for text, _ in row) for row in fold([("漢字漢字 漢字", "")], 9)]
    assert folded == ["漢字漢字 ", "漢字"]
    assert [cells(row) for row in folded] == [9, 4]
    assert ["".join(text for text, _ in row) for row in fold([("漢字漢字漢", "")], 5)] == [
        "漢字",
        "漢字",
        "漢",
    ]


def test_nothing_that_moves_a_cursor_is_shown() -> None:
    """Whatever a client sent: every character of a view can be printed."""
    hostile = "\x1b[2J\x9b\u202e\n\r\x07\u2028\x00"
    for key in ("req_path", "exc_msg", "req_method", "db_n1", "resp_status", "ts", "g_open"):
        fields = {**logfmt.parse(VIEWS[3][0]), "event_type": "request", key: f"T{hostile}"}
        for is_verbose in (False, True):
            shown = view(fields, is_verbose=is_verbose)
            assert all(text.isprintable() for row in rows(shown, 80) for text, _ in row)
    assert r"\u001b[2J\u009b\u202e\n\r\u0007\u2028\u0000" in "".join(
        text for row in rows(view({**fields, "exc_msg": hostile}), None) for text, _ in row
    )
