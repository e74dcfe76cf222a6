"""The `pool` line: how busy the pool was over an interval."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from pathlib import Path

from tests.support.pool import pool_lines, written_at
from tests.support.raw_requests import send
from tests.support.servers import PATIENCE_S, Line, eventually, gunicorn

EVERY = "OTEL_PYTHON_CANONICAL_POOL_INTERVAL_SECONDS"


def busy_share(requests: list[Line], begin: float, end: float) -> float:
    """Return for which share of a time one of `requests` was open; there is one at a time."""
    busy_s = 0.0
    for line in requests:
        ended = written_at(line)
        busy_s += max(0.0, min(ended, end) - max(ended - float(line["resp_time"]), begin))
    return busy_s / (end - begin)


def test_utilization_of_bursts_is_their_share_of_time(tmp_path: Path) -> None:
    """Busy 30 % of the time in bursts of 100 ms: 0.30 +- 0.03, and what the lines themselves say."""
    with gunicorn("stuck", tmp_path, **{EVERY: "4"}) as site:
        first = eventually(lambda: pool_lines(site), site.report)[0]
        pause, has_ended = threading.Event(), threading.Event()

        def burst() -> None:
            began_s = time.monotonic()
            while not has_ended.is_set():
                send(site, "/takes/?s=0.1")
                requests = [line for line in site.lines() if line["event_type"] == "request"]
                busy_s = sum(float(line["resp_time"]) for line in requests)
                # However late this machine is: the next one when all so far were 30 % of the time.
                pause.wait(max(0.0, began_s + busy_s / 0.30 - time.monotonic()))

        thread = threading.Thread(target=burst)
        thread.start()

        def measured() -> list[tuple[float, float]]:
            """Return what each line says, and the share by the lines of requests."""
            requests = [line for line in site.lines() if line["event_type"] == "request"]
            _, *lines = pool_lines(site)
            return [
                (
                    float(line["g_utilization"]),
                    busy_share(requests, written_at(before), written_at(line)),
                )
                for before, line in itertools.pairwise(lines)
            ]

        try:
            # On a busy machine a pause may be longer than asked for: such an interval doesn't count.
            eventually(
                lambda: sum(abs(share - 0.30) < 0.02 for _, share in measured()[:-1]) >= 2,
                lambda: f"{measured()}\n{site.report()}",
            )
        finally:
            has_ended.set()
            thread.join()
        found = measured()[:-1]
    print(f"(g_utilization, share by the lines of requests): {found}")
    assert "g_utilization" in first
    for utilization, share in found:
        assert abs(utilization - share) < 0.01
        assert abs(share - 0.30) >= 0.02 or abs(utilization - 0.30) <= 0.03


def test_pool_line_tells_what_happened_since_the_last(tmp_path: Path) -> None:
    """Workers, slots, starts, deaths by cause and lines by kind; the sum of all lines is the total."""
    with gunicorn("stuck", tmp_path, workers=2, **{EVERY: "1"}) as site:
        for _ in range(3):
            send(site, "/ok/")
        send(site, "/exits-hard/")
        eventually(lambda: any("g_w_died_exit_7" in line for line in pool_lines(site)), site.report)
        os.kill(site.pid, signal.SIGTERM)
        assert site.process.wait(PATIENCE_S) == 0
        lines = pool_lines(site)
        requests = [line for line in site.lines() if line["event_type"] != "pool"]
    assert len(requests) == 4
    assert list(lines[0])[:5] == ["ts", "event_type", "g_w_count", "g_w_active", "g_backlog"]
    assert (lines[0]["g_t_count"], lines[-1]["g_w_count"]) == ("2", "0")
    totals = {
        key: sum(int(line.get(key, 0)) for line in lines)
        for key in (
            *("g_w_started", "g_w_died_exit_7", "g_w_died_shutdown"),
            *("g_lines_request", "g_lines_lost"),
        )
    }
    assert totals == {
        "g_w_started": 3,
        "g_w_died_exit_7": 1,
        "g_w_died_shutdown": 2,
        "g_lines_request": 3,
        "g_lines_lost": 1,
    }


def test_pool_line_obeys_format_and_excluded_fields(tmp_path: Path) -> None:
    """It is a line as any other."""
    with gunicorn(
        "stuck",
        tmp_path,
        **{
            EVERY: "1",
            "OTEL_PYTHON_CANONICAL_FORMAT": "json",
            "OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS": "g_w_*",
        },
    ) as site:
        eventually(lambda: site.stdout.read_text().count("\n") >= 1, site.report)
        line = json.loads(site.stdout.read_text().splitlines()[0])
    assert line["event_type"] == "pool"
    assert line["g_t_count"] == 1
    assert isinstance(line["g_utilization"], float)
    assert not [key for key in line if key.startswith("g_w_")]


def test_no_pool_line_unless_asked_for(tmp_path: Path) -> None:
    """Off by default: a server without requests is silent, to its last line."""
    with gunicorn("stuck", tmp_path) as site:
        send(site, "/ok/")
        site.wait_for_lines(1)
        os.kill(site.pid, signal.SIGTERM)
        site.process.wait(PATIENCE_S)
        assert len(site.lines()) == 1
