"""The verdict of `ready`, and what the screens make of a pool."""

from __future__ import annotations

from typing import Any

import pytest

from otel_canonical.reading.live import tables
from otel_canonical.reading.live.shapes import LivePool, LiveRequest, LiveWorker
from otel_canonical.reading.live.where import Whereabouts
from otel_canonical.reading.ready import judge
from otel_canonical.reading.top import History, rows


def a_worker(number: int = 0, **more: Any) -> LiveWorker:
    """Return a worker with four slots that has just beaten."""
    facts: dict[str, Any] = {
        "number": number,
        "pid": 100 + number,
        "age": 5.0,
        "state": "running",
        "is_booted": True,
        "requests": 7,
        "busy": 1,
        "slots": 4,
        "waiting": 0,
        "memory": 1 << 20,
        "pss": 1 << 19,
        "heartbeat": 0.5,
    }
    return LiveWorker(**{**facts, **more})


def a_request(**more: Any) -> LiveRequest:
    """Return a request that has just begun."""
    facts: dict[str, Any] = dict.fromkeys(LiveRequest.__dataclass_fields__)
    facts |= {"worker_pid": 100, "worker": 0, "age": 0.25, "state": "runs", "queries": 3}
    facts |= {"method": "GET", "path": "/a/", "started_ns": 1, "thread_id": 2}
    return LiveRequest(**{**facts, **more})


def a_pool(*workers: LiveWorker, **more: Any) -> LivePool:
    """Return a pool whose arbiter has just sampled it."""
    facts: dict[str, Any] = {
        "pid": 99,
        "state": "running",
        "facts_age": 0.4,
        "backlog": 0,
        "is_bounded": True,
        "has_queues": True,
        "requests": [],
        "switches": {},
        "facts": {"timeout_s": 30, "workers": len(workers), "bind": ["http://127.0.0.1:80"]},
    }
    return LivePool(workers=list(workers), **{**facts, **more})


def test_pool_that_works_is_ready() -> None:
    """One of three may be starting, as in every recycling."""
    pool = a_pool(a_worker(0, busy=4), a_worker(1), a_worker(2, is_booted=False, heartbeat=None))
    verdict = judge(pool, max_backlog=0, min_idle=1)
    assert verdict.is_ready
    assert verdict.sentence == "2 of 3 workers beat, 1 idle, backlog 0"


@pytest.mark.parametrize(
    ("pool", "sentence"),
    [
        (
            a_pool(a_worker(), state="stopped"),
            "the arbiter is stopped; 1 of 1 workers beat, 1 idle",
        ),
        (a_pool(a_worker(), state="gone"), "the arbiter is gone; "),
        (a_pool(a_worker(), facts_age=None), "the arbiter has just started"),
        (a_pool(a_worker(), facts_age=31.0), "the arbiter was last seen working 31.0 s ago"),
        (a_pool(), "0 of 0 workers beat, backlog 0"),
        (a_pool(a_worker(heartbeat=20.0)), "0 of 1 workers beat (last 20.0 s ago), backlog 0"),
        (a_pool(a_worker(state="stopped")), "0 of 1 workers beat"),
        (a_pool(a_worker(), backlog=7), "1 of 1 workers idle, backlog 7 (--max-backlog 5)"),
        (a_pool(a_worker(busy=4)), "0 of 1 workers idle (--min-idle 1), backlog 0"),
    ],
)
def test_pool_that_does_not_work_is_not(pool: LivePool, sentence: str) -> None:
    """One sentence says why."""
    verdict = judge(pool, max_backlog=5, min_idle=1)
    assert not verdict.is_ready
    assert verdict.sentence.startswith(sentence)


def test_old_heartbeat_says_nothing_without_a_timeout() -> None:
    """With `--timeout 0` no worker must beat, and none is ever killed for it."""
    pool = a_pool(a_worker(heartbeat=900.0), facts={"timeout_s": 0})
    assert judge(pool).is_ready


@pytest.mark.parametrize("width", [80, 120, 200])
def test_requests_fit_and_move_no_cursor(width: int) -> None:
    """A path and SQL of any length, with what a client may have put into them."""
    hostile = a_request(path="/\x1b[2J" + "ü漢" * 300, route="r" * 300, sql="S" * 900)
    waiting = a_request(waits_in="http", waits=3.9, age=31.0)
    texts = [
        "".join(text for text, _ in row) for row in tables.request_rows([hostile, waiting], width)
    ]
    assert all(tables.cells(text) <= width for text in texts)
    assert not any("\x1b" in text for text in texts)
    assert "(http 3.9 s)" in texts[2]


def test_rates_are_those_between_two_samples() -> None:
    """The arbiter's lines over its own time; looks in between change nothing."""
    history = History()
    for lines, at_s in ((100, 10), (160, 12), (160, 12)):
        facts = {"lines": {"request": lines}, "sampled_ns": at_s * 10**9, "history": [[1, 0]]}
        history.add(a_pool(a_worker(), facts=facts))
    assert history.rates["request"] == 30
    assert list(history.busy) == [1, 1, 1, 1]


def test_screen_of_top_is_never_higher_than_the_terminal() -> None:
    """Many requests: the rest is counted."""
    pool = a_pool(a_worker(), requests=[a_request() for _ in range(100)])
    shown = rows(pool, History(), 80, 24)
    assert len(shown) <= 23
    assert shown[-1][0][0].startswith("… and ")


def test_sparkline_shows_gaps_and_the_highest() -> None:
    """What is unknown is not 0."""
    assert tables.sparkline([0, None, 4, 8], 10) == "▁ ▄█"
    assert tables.sparkline([0, 0], 10) == "▁▁"


def test_stack_shows_the_apps_lines_and_what_they_wait_in() -> None:
    """Frames of libraries around them only where they say something."""
    frames = (
        ("/venv/lib/python3.11/site-packages/gunicorn/a.py", 1, "run", False),
        (__file__, 20, "view", True),
        ("/venv/lib/python3.11/site-packages/psycopg/b.py", 2, "execute", False),
        ("/venv/lib/python3.11/site-packages/psycopg/c.py", 3, "deeper", False),
        ("/usr/lib/python3.11/socket.py", 4, "recv", False),
        ("/usr/lib/python3.11/selectors.py", 5, "select", False),
    )
    place = Whereabouts(frames, [a_request(age=31.0), a_request(age=29.0)], "watchdog")
    texts = [
        "".join(text for text, _ in row).rstrip()
        for row in tables.stack_rows([place], all_frames=False)
    ]
    assert texts[0] == "2 requests, 31.0 s to 29.0 s: GET /a/   (told by watchdog)"
    assert texts[1].startswith("  > ")
    assert [text.split()[0] for text in texts[2:]] == [
        "psycopg/b.py:2",
        "socket.py:4",
        "selectors.py:5",
    ]
