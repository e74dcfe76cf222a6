"""A request's time adds up by state and by place, and each place has what was spent in it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_canonical.reading.line_checks import faults
from tests.support.demo_shop import shop
from tests.support.servers import DEMO, PATIENCE_S, Line, Server, eventually, gunicorn
from tests.support.time_sums import STATES, Sums, negative_keys, seconds_of, summary, sums_of

ENDINGS = ("request", "timeout", "lost")

#: In an undisturbed request.
MOST_WAIT_S = 0.001

#: As in the program `eats_time`.
NAPS = {
    "middleware": 0.05,
    "view": 0.06,
    "template": 0.07,
    "query": 0.03,
    "cache": 0.04,
    "body": 0.08,
}


def ended(server: Server) -> list[Line]:
    """Return the lines of requests that have ended."""
    return [line for line in server.lines() if line["event_type"] in ENDINGS]


@pytest.mark.parametrize(
    "arguments", [(), ("-k", "gthread", "--threads", "2")], ids=["sync", "gthread"]
)
def test_places_and_states_add_up_on_the_whole_tour(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request of the demo's tour: both sums, nothing negative, and next to nothing in no place.

    A page's rest counts when this machine let it be small: other work on it only adds.
    """
    monkeypatch.syspath_prepend(str(DEMO))
    from tour.visitor import Visitor, visit_everything  # type: ignore[import-not-found]

    seen: list[Sums] = []
    smallest: dict[str, Sums] = {}

    def look_at(line: Line) -> None:
        assert negative_keys(line) == [], line
        assert list(faults(line)) == [], line
        sums = sums_of(line)
        assert sums.are_right(), line
        seen.append(sums)
        page = f"{line['req_method']} {line['req_path']} {line['resp_status']}"
        if page not in smallest or sums.rest < smallest[page].rest:
            smallest[page] = sums

    def large() -> list[str]:
        return [page for page, sums in smallest.items() if not sums.has_small_rest()]

    with shop(tmp_path, *arguments) as server:
        # On a slow machine few tours let the rest of each page be small.
        count, deadline = 0, time.monotonic() + 3 * PATIENCE_S
        while not seen or (large() and time.monotonic() < deadline):
            visitor = Visitor(*server.address)
            visit_everything(visitor)
            count += len(visitor.sent)
            eventually(lambda: len(ended(server)) >= count, server.report)  # noqa: B023  # at once
            answered = [line for line in ended(server)[-len(visitor.sent) :] if "view_time" in line]
            assert len(answered) > 20
            assert all("resp_blocked" in line for line in answered if line["req_path"] != "/async/")
            for line in answered:
                look_at(line)
    print(summary(seen))
    assert large() == [], smallest


@pytest.fixture(scope="module")
def eater(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A site whose views spend time in one way each; two threads, so that they can disturb each other."""
    arguments = ("-k", "gthread", "--threads", "2")
    with gunicorn("eats_time", tmp_path_factory.mktemp("eater"), *arguments) as server:
        server.get("/ok/")
        yield server


def undisturbed(server: Server, path: str) -> Line:
    """Ask until the thread had its CPU at once, each time; return that line.

    Where it waits for a CPU between two readings of clocks, a state and the whole time can't be as exact.
    """

    def ask() -> Line | None:
        _, line = server.ask(path)
        return line if float(line["resp_cpu_wait"]) < MOST_WAIT_S else None

    line = eventually(ask, server.report)
    assert line is not None
    return line


def test_each_place_has_what_was_spent_in_it(eater: Server) -> None:
    """No less, and as they add up to the whole, no more either."""
    line = undisturbed(eater, "/everywhere/")
    expected = {
        "mw_time": 2 * NAPS["middleware"],
        "view_time": NAPS["view"],
        "tpl_self_time": NAPS["template"],
        "db_time": 2 * NAPS["query"],
        "cache_time": NAPS["cache"],
        "body_time": NAPS["body"],
    }
    for key, nap in expected.items():
        assert float(line[key]) >= nap, key
    # Whole renders, with their queries.
    assert float(line["tpl_time"]) >= NAPS["template"] + NAPS["query"]
    assert "resp_overlap" not in line
    assert sums_of(line).are_right(), line
    assert float(line["resp_blocked"]) >= sum(expected.values()) - MOST_WAIT_S


@pytest.mark.parametrize("view", ["side_by_side", "gathers"])
def test_work_side_by_side_is_said_to_overlap(view: str, eater: Server) -> None:
    """Two look-ups at once are both in `cache_time`; what they took together is counted once too often.

    What else overlaps by chance, because a thread has to wait for a CPU, only adds to that.
    """

    def ask() -> Line | None:
        _, line = eater.ask(f"/{view}/")
        assert float(line["cache_time"]) >= 2 * NAPS["cache"]
        assert negative_keys(line) == []
        assert sums_of(line).are_right(), line
        is_theirs = 0 < float(line["resp_overlap"]) <= float(line["cache_time"]) / 2 + 0.001
        return line if is_theirs else None

    line = eventually(ask, eater.report)
    assert line is not None
    # What runs in the threads of an event loop has no states.
    assert ("resp_blocked" in line) == (view == "side_by_side")


def test_sleeping_is_blocked_and_computing_is_cpu(eater: Server) -> None:
    """By state; by place both are the view's.

    Clocks are read one after the other: a state may differ from the nap by what that takes, below 1 ms.
    """
    slept = undisturbed(eater, "/sleeps/?s=0.3")
    _, burnt = eater.ask("/burns/?s=0.3")
    assert float(slept["resp_blocked"]) >= 0.3 - 0.001
    assert float(slept["resp_cpu_time"]) < 0.1
    assert float(burnt["resp_cpu_time"]) >= 0.3
    for line in (slept, burnt):
        assert float(line["view_time"]) >= 0.3
        assert sums_of(line).are_right(), line


def test_waiting_for_a_holder_of_the_gil_is_blocked(eater: Server) -> None:
    """Another thread is in C all the time: this one has no turn, and isn't said to compute."""
    answer, line = eater.ask("/waits_for_gil/")
    found = json.loads(answer.body)
    print(found, {key: line[key] for key in ("resp_time", *STATES)})
    # It would have run some hundred times.
    assert found["runs"] < 1000 * found["held"] / 10
    assert float(line["resp_blocked"]) >= 0.9 * found["held"] - float(line["resp_cpu_wait"])
    assert float(line["resp_cpu_time"]) < found["held"] / 4


def test_two_that_compute_under_one_gil_block_each_other(eater: Server) -> None:
    """Neither is said to use more than it did."""
    lines: list[Line] = []
    clients = [
        threading.Thread(target=lambda: lines.append(eater.ask("/burns/?s=0.5")[1]))
        for _ in range(2)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    for line in lines:
        assert 0.5 <= float(line["resp_cpu_time"]) <= 0.7
        assert sums_of(line).are_right(), line
    longest = max(lines, key=lambda line: float(line["resp_time"]))
    # The other's computing, while this one ran.
    assert seconds_of(longest, ["resp_blocked", "resp_cpu_wait"]) >= 0.3


def own_cpu_cgroup() -> Path | None:
    """Return the directory of this process's CPU cgroup, if a group with a quota can be made below it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            directory = Path("/sys/fs/cgroup/cpu") / path.lstrip("/")
            has_quotas = (directory / "cpu.cfs_quota_us").exists()
            return directory if has_quotas and os.access(directory, os.W_OK) else None
    return None


def test_throttling_by_a_quota_is_waiting_for_a_cpu(tmp_path: Path) -> None:
    """A worker that may have a fifth of a CPU and computes: its wait explains the time that it took."""
    parent = own_cpu_cgroup()
    if parent is None:
        pytest.skip("needs a writable CPU cgroup (version 1), as root has outside containers")
    group = parent / f"otel-canonical-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("20000")
        with gunicorn("eats_time", tmp_path) as server:
            server.get("/ok/")
            [worker] = server.workers()
            (group / "cgroup.procs").write_text(str(worker))
            _, line = server.ask("/burns/?s=0.4")
    finally:
        eventually(
            lambda: not (group / "cgroup.procs").read_text(), lambda: "the group is not empty"
        )
        group.rmdir()
    print({key: line[key] for key in ("resp_time", *STATES)})
    elapsed = float(line["resp_time"])
    assert elapsed >= 1.0
    assert float(line["resp_cpu_wait"]) >= elapsed / 2
    unexplained = elapsed - seconds_of(line, ["resp_cpu_time", "resp_cpu_wait"])
    assert abs(unexplained) <= 0.05 * elapsed
