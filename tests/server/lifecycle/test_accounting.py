"""Counting lines counts requests, whatever kills a worker; dead workers leave nothing behind.

A short version of each runs with the other tests; `OTEL_CANONICAL_SOAK=1` (`make soak`) the long one.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.footprint import MEMORY_SLACK_KIB, footprint, settled_footprint
from tests.support.otlp_sink import otlp_sink
from tests.support.processes import is_alive
from tests.support.raw_requests import send, status_of
from tests.support.servers import PATIENCE_S, Server, eventually, gunicorn
from tests.support.soak import IS_SOAK, some_of

pytestmark = pytest.mark.soak

#: (short, long)
KILLING_S = (6, 60)[IS_SOAK]
RECYCLES = (12, 1000)[IS_SOAK]
KILLS = (4, 200)[IS_SOAK]
TIMEOUTS = (12, 200)[IS_SOAK]
ORDINARY = (1000, 100_000)[IS_SOAK]
ILL_REQUESTS = (60, 1200)[IS_SOAK]
CLIENTS = 6
KILL_EVERY_S = 0.4
FEWEST_KILLS = 4


def kill_a_worker(site: Server, among: Container[int] | None = None) -> int | None:
    """Kill one of the workers at random, or one of those `among` them."""
    workers = [pid for pid in site.workers() if among is None or pid in among]
    if not workers:
        return None
    pid = random.choice(workers)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return pid
    return None


def test_every_request_has_one_line_when_workers_are_killed(tmp_path: Path) -> None:
    """Answered requests have one line, none has two, each kill of a busy worker has its `lost`."""
    ended = threading.Event()
    statuses: dict[str, int | None] = {}

    def client(number: int) -> None:
        for n in range(1_000_000):
            if ended.is_set():
                return
            request_id = f"c{number}-{n}"
            statuses[request_id] = status_of(site, "/takes/?s=0.02", request_id)

    with gunicorn("stuck", tmp_path, workers=3) as site:
        clients = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
        for thread in clients:
            thread.start()
        deadline = time.monotonic() + KILLING_S
        kills = 0
        while not ended.wait(KILL_EVERY_S):
            # One that serves: on a slow machine none would ever come so far.
            serving = {int(line["g_pid"]) for line in site.lines()}
            kills += kill_a_worker(site, serving) is not None
            if time.monotonic() > deadline and kills >= FEWEST_KILLS:
                ended.set()
        for thread in clients:
            thread.join()
        answered = {request for request, status in statuses.items() if status is not None}
        eventually(
            lambda: answered <= {line["req_id"] for line in site.lines()},
            lambda: f"without a line: {answered - {line['req_id'] for line in site.lines()}}",
        )
        lines = site.lines()
    count = collections.Counter(line["req_id"] for line in lines)
    kinds = collections.Counter(line["event_type"] for line in lines)
    broken = set(statuses) - answered
    print(
        f"{len(statuses)} requests, {len(answered)} answered, {kills} kills; "
        f"lines: {dict(kinds)}; {len(broken)} connections broken"
    )
    assert not [request for request, lines_of_it in count.items() if lines_of_it != 1]
    lost = {line["req_id"]: line["lost_cause"] for line in lines if line["event_type"] == "lost"}
    assert set(lost.values()) <= {"SIGKILL"}
    # Answered in full and killed before its line: that is a lost request, too, and the line says so.
    assert set(count) == answered | set(lost)
    # A connection may also break unaccepted, in the backlog of a killed worker: not a request then.
    assert set(lost) - answered <= broken
    assert len(answered) > kills


def test_nothing_is_left_when_workers_come_and_go(tmp_path: Path) -> None:
    """Recycled and killed workers leave no memory, descriptor, thread or zombie in the arbiter."""
    with gunicorn("stuck", tmp_path, "--max-requests", "1", workers=2) as site:

        def recycle(times: int) -> None:
            for n in range(times):
                assert status_of(site, "/ok/", f"r{n}") in (200, None)

        recycle(RECYCLES // 10)
        before = settled_footprint(site)
        recycle(RECYCLES)
        for _ in range(KILLS):
            eventually(lambda: kill_a_worker(site), site.report)
            eventually(lambda: len(site.workers()) == 2, site.report)
        eventually(
            lambda: footprint(site).counts == before.counts, lambda: f"{before} {footprint(site)}"
        )
        after = footprint(site)
        print(f"before {before}, after {after}")
        assert after.resident_kib - before.resident_kib < MEMORY_SLACK_KIB
        eventually(
            lambda: all(is_alive(pid) for pid in site.workers()),
            lambda: f"zombies\n{site.report()}",
        )


def test_watchdog_looks_at_the_deadline(tmp_path: Path) -> None:
    """Every timeout was seen, none before its deadline; how late each was is printed."""
    margin_s, timeout_s = 0.5, 1
    with gunicorn("stuck", tmp_path, "-t", str(timeout_s), workers=4) as site:
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda n: status_of(site, "/sleeps/", f"t{n}"), range(TIMEOUTS)))
        lines = [line for line in site.wait_for_lines(TIMEOUTS) if line["event_type"] == "timeout"]
    assert len(lines) == TIMEOUTS
    late_ms = sorted(
        1000 * (float(line["timeout_seen"]) - (timeout_s - margin_s)) for line in lines
    )
    percentile_99 = late_ms[min(len(late_ms) - 1, round(len(late_ms) * 0.99))]
    print(
        f"{len(late_ms)} timeouts, seen after the deadline in ms: min {late_ms[0]:.1f}, "
        f"median {statistics.median(late_ms):.1f}, p99 {percentile_99:.1f}, max {late_ms[-1]:.1f}"
    )
    # Gunicorn's clock begins with the worker's last heartbeat, a moment before the request: on a busy
    # machine that is a tenth of a second. Half the deadline would be too early for anything.
    assert late_ms[0] > -1000 * (timeout_s - margin_s) / 2


def test_no_false_alarm_among_ordinary_requests(tmp_path: Path) -> None:
    """Ordinary requests with everything armed: request lines only, and no thread per request."""
    with gunicorn(
        "stuck", tmp_path, "-t", "3", workers=2, OTEL_PYTHON_CANONICAL_SLOW_SECONDS="1.5"
    ) as site:
        # Each worker's own thread and the watchdog.
        eventually(
            lambda: [len(os.listdir(f"/proc/{pid}/task")) for pid in site.workers()] == [2, 2],
            site.report,
        )
        threads_before = [len(os.listdir(f"/proc/{pid}/task")) for pid in site.workers()]
        with ThreadPoolExecutor(4) as clients:
            statuses = list(
                clients.map(lambda n: status_of(site, "/ok/", f"o{n}"), range(ORDINARY))
            )
        threads_after = [len(os.listdir(f"/proc/{pid}/task")) for pid in site.workers()]
        lines = site.wait_for_lines(ORDINARY)
    assert set(statuses) == {200}
    assert {line["event_type"] for line in lines} == {"request"}
    assert not [line for line in lines if "deadline_exceeded" in line or "slow_loc" in line]
    assert threads_after == threads_before


@pytest.mark.parametrize("collector", some_of(["down", "hanging", "refusing"], "down", "hanging"))
def test_workers_come_and_go_when_collector_is_ill(collector: str, tmp_path: Path) -> None:
    """Forks amid failing exports: every worker answers, has its telemetry, and leaves in time."""
    with contextlib.ExitStack() as stack:
        ill = stack.enter_context(ill_collector(collector))
        site = stack.enter_context(
            gunicorn(
                "stuck",
                tmp_path,
                *("--max-requests", "15", "--graceful-timeout", "10", "-t", "3"),
                workers=2,
                OTEL_EXPORTER_OTLP_ENDPOINT=ill,
                OTEL_BSP_SCHEDULE_DELAY="50",
                OTEL_METRIC_EXPORT_INTERVAL="100",
                # What the exporters say about it is not ours.
                OTEL_CANONICAL_STRICT="0",
            )
        )
        requests = ILL_REQUESTS
        for n in range(requests):
            path = "/exits-hard/" if n % 20 == 10 else "/ok/"
            status = status_of(site, path, f"i{n}")
            assert status == (None if path == "/exits-hard/" else 200), site.report()
        lines = site.wait_for_lines(requests)
        assert {line["sampled"] for line in lines} == {"true"}
        os.kill(site.pid, signal.SIGTERM)
        # Within the graceful timeout: Gunicorn kills no worker.
        assert site.process.wait(PATIENCE_S) == 0
        assert "SIGKILL" not in site.stderr.read_text()


@contextlib.contextmanager
def ill_collector(kind: str) -> collections.abc.Iterator[str]:
    """Yield the address of a collector that is `down`, `hanging` or `refusing`."""
    import socket

    if kind == "refusing":
        with otlp_sink() as sink:
            yield f"{sink.endpoint}/refuses"
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "hanging":
            listener.listen(128)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_worker_exports_when_collector_comes_back(tmp_path: Path) -> None:
    """A worker forked while the collector was down exports once it is there."""
    with (
        otlp_sink() as sink,
        gunicorn(
            "stuck",
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="50",
        ) as site,
    ):
        send(site, "/exits-hard/")
        for _ in range(3):
            send(site, "/ok/")
        last = site.wait_for_lines(4)[-1]
        assert sink.root_of(last).attributes["process.pid"] == int(last["g_pid"])
