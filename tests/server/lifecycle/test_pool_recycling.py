"""Workers are recycled by the hundred, and the pool's numbers match the processes.

A short version runs with the other tests; `make soak` runs the long one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.support.footprint import MEMORY_SLACK_KIB, settled_footprint
from tests.support.otlp_sink import otlp_sink
from tests.support.pool import (
    COUNTERS,
    SMALL,
    exporting_metrics,
    last_value,
    pool_lines,
    series_of,
    written_at,
)
from tests.support.processes import is_alive
from tests.support.raw_requests import status_of
from tests.support.servers import PATIENCE_S, Server, eventually, gunicorn
from tests.support.soak import IS_SOAK

pytestmark = pytest.mark.soak

RECYCLES = (16, 1000)[IS_SOAK]
#: Workers are added and removed by signals, between these.
FEWEST, MOST = 1, 4
#: What the pool's numbers may lag behind, by the promise.
LAG_S = 1.0


class Census:
    """Counts a server's worker processes again and again, beside what it says of them itself."""

    def __init__(self, site: Server) -> None:
        self._site = site
        self._counts: list[tuple[float, int]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Census:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def around(self, moment: float) -> set[int]:
        """Return the counts that were true within `LAG_S` of a moment."""
        inside = {count for seen, count in self._counts if abs(seen - moment) <= LAG_S}
        before = [count for seen, count in self._counts if seen < moment - LAG_S]
        return inside | set(before[-1:])

    def _run(self) -> None:
        while not self._is_over.wait(0.01):
            with contextlib.suppress(FileNotFoundError):  # it has left
                self._counts.append((time.time(), len(self._site.workers())))


def resources(pid: int) -> tuple[int, int]:
    """Return the descriptors and threads of a process."""
    return tuple(len(os.listdir(f"/proc/{pid}/{name}")) for name in ("fd", "task"))


def change(site: Server, *, more: bool) -> int:
    """Have one worker more or one less; return which. A second signal could be lost in the first."""
    handled = site.stderr.read_text().count("Handling signal: tt")
    os.kill(site.pid, signal.SIGTTIN if more else signal.SIGTTOU)
    eventually(lambda: site.stderr.read_text().count("Handling signal: tt") > handled, site.report)
    return 1 if more else -1


def test_counts_are_right_while_workers_are_recycled_added_and_removed(tmp_path: Path) -> None:
    """Each request ends a worker, signals add and remove some; only living workers are counted."""
    with (
        otlp_sink() as sink,
        gunicorn(
            "plain_wsgi",
            tmp_path,
            *("--max-requests", "1"),
            workers=2,
            OTEL_PYTHON_CANONICAL_POOL_INTERVAL_SECONDS="1",
            **exporting_metrics(sink, **SMALL),
        ) as site,
        Census(site) as census,
    ):
        for n in range(RECYCLES // 10):
            assert status_of(site, "/ok/", f"warm{n}") in (200, None)
        [reporter] = eventually(site.reporters, site.report)
        eventually(lambda: last_value(sink, "gunicorn.workers.count") == 2, site.report)
        before, reporter_before = settled_footprint(site), resources(reporter)
        wanted = 2
        for n in range(RECYCLES):
            assert status_of(site, "/ok/", f"r{n}") in (200, None)
            if n % 4 == 0:
                more = wanted == FEWEST or (wanted < MOST and random.random() < 0.5)
                wanted += change(site, more=more)
        while wanted != 2:
            wanted += change(site, more=wanted < 2)
        eventually(lambda: len(site.workers()) == 2, site.report)
        told = len(pool_lines(site))
        eventually(lambda: len(pool_lines(site)) > told + 1, site.report)
        eventually(lambda: last_value(sink, "gunicorn.workers.count") == 2, site.report)
        after = settled_footprint(site)
        assert site.reporters() == [reporter]
        assert resources(reporter) == reporter_before
        lines = pool_lines(site)
        os.kill(site.pid, signal.SIGTERM)
        assert site.process.wait(PATIENCE_S) == 0
        eventually(lambda: not is_alive(reporter), site.report)
        totals = pool_lines(site)
        started = last_value(sink, "gunicorn.workers.started")
    print(f"{started} workers started, {len(lines)} pool lines; {before} before, {after} after")
    wrong = [
        (line["ts"], line["g_w_count"], census.around(written_at(line)))
        for line in lines
        if int(line["g_w_count"]) not in census.around(written_at(line))
    ]
    assert not wrong
    assert before.counts == after.counts
    assert after.resident_kib - before.resident_kib < MEMORY_SLACK_KIB
    assert started is not None
    assert started >= RECYCLES
    assert sum(int(line["g_w_started"]) for line in totals) == started
    died = [
        int(value) for line in totals for key, value in line.items() if key.startswith("g_w_died_")
    ]
    assert sum(died) == started
    for (name, _, _), values in series_of(sink).items():
        if name in COUNTERS:
            assert all(value <= later for value, later in itertools.pairwise(values))
