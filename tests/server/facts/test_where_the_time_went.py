"""A request's time adds up by state and by place, and what surprised it is said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_canonical.reading.line_checks import faults
from tests.support.demo_shop import shop
from tests.support.servers import DEMO, Line, Server, eventually, gunicorn

PLACES = ("mw_time", "view_time", "tpl_self_time", "body_time", "resp_other_time")
DATABASE = ("db_time", "db_fetch_time", "db_connect_time", "db_txn_time")
STATES = ("resp_cpu_time", "resp_cpu_wait", "resp_blocked")

#: Of what adds up, how much may be missing; the same for the rest of ordinary pages.
SHARE, LEAST_S = 0.02, 0.001
REST_SHARE = 0.05


def seconds_of(line: Line, keys: tuple[str, ...]) -> float:
    """Return the sum of some times of a line."""
    return sum(float(line.get(key, 0)) for key in keys)


def gap_by_place(line: Line) -> float:
    """Return by how much the places of a line miss its time."""
    systems = tuple(
        key
        for key in line
        if key.endswith("_time")
        and not key.startswith(("app_", "db_", "resp_", "req_", "tpl_", "gc_"))
        and key not in PLACES
    )
    together = seconds_of(line, (*PLACES, *DATABASE, *systems)) - float(line.get("resp_overlap", 0))
    return abs(together - float(line["resp_time"]))


@pytest.mark.parametrize(
    "arguments", [(), ("-k", "gthread", "--threads", "2")], ids=["sync", "gthread"]
)
def test_places_and_states_add_up_on_the_whole_tour(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request of the demo's tour that was answered: both sums, nothing negative, a small rest."""
    monkeypatch.syspath_prepend(str(DEMO))
    from tour.visitor import Visitor, visit_everything  # type: ignore[import-not-found]

    with shop(tmp_path, *arguments) as server:
        visitor = Visitor(*server.address)
        visit_everything(visitor)
        endings = ("request", "timeout", "lost")
        eventually(
            lambda: (
                sum(line["event_type"] in endings for line in server.lines()) == len(visitor.sent)
            ),
            server.report,
        )
        lines = [line for line in server.lines() if "view_time" in line]
    assert len(lines) > 10
    place_gaps, state_gaps, rests = [], [], []
    for line in lines:
        elapsed = float(line["resp_time"])
        for key in (*PLACES, *DATABASE, *STATES, "resp_overlap"):
            assert float(line.get(key, 0)) >= 0, line
        if line["event_type"] != "request":
            continue
        assert list(faults(line)) == [], line
        place_gaps.append(gap_by_place(line))
        assert place_gaps[-1] <= max(SHARE * elapsed, LEAST_S), line
        if "resp_blocked" in line:
            state_gaps.append(abs(seconds_of(line, STATES) - elapsed))
            assert state_gaps[-1] <= max(SHARE * elapsed, LEAST_S), line
        # The server may have had to wait for a CPU, where this machine has other work.
        waited = float(line.get("resp_cpu_wait", 0))
        rests.append((max(float(line["resp_other_time"]) - waited, 0.0), elapsed))
    for name, gaps in (("places", place_gaps), ("states", state_gaps)):
        print(
            f"{name}: {len(gaps)} lines, worst {max(gaps):.6f}, median {sorted(gaps)[len(gaps) // 2]:.6f}"
        )
    small = [rest <= max(REST_SHARE * elapsed, LEAST_S) for rest, elapsed in rests]
    print(f"rest: worst {max(rests)}, median {sorted(rests)[len(rests) // 2]}, {sum(small)} small")
    # What the server does with a client that leaves, or reads slowly, is no place of its own.
    assert sum(small) >= 0.75 * len(small), sorted(rests)[-8:]
    assert sorted(rests)[len(rests) // 2][0] <= LEAST_S


@pytest.fixture(scope="module")
def eater(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A site whose views spend time in one way each; two threads, so that they can disturb each other."""
    arguments = ("-k", "gthread", "--threads", "2")
    with gunicorn("eats_time", tmp_path_factory.mktemp("eater"), *arguments) as server:
        server.get("/ok/")
        yield server


def test_sleeping_is_blocked_and_computing_is_cpu(eater: Server) -> None:
    """By state; by place both are the view's."""
    _, slept = eater.ask("/sleeps/?s=0.3")
    _, burnt = eater.ask("/burns/?s=0.3")
    assert float(slept["resp_blocked"]) >= 0.29
    assert float(slept["resp_cpu_time"]) < 0.1
    assert float(burnt["resp_cpu_time"]) >= 0.29
    for line in (slept, burnt):
        assert float(line["view_time"]) >= 0.29
        assert seconds_of(line, STATES) == pytest.approx(float(line["resp_time"]), abs=0.002)


def test_waiting_for_the_gil_is_blocked(eater: Server) -> None:
    """Two threads compute at once under one GIL: each is blocked while the other runs."""
    lines: list[Line] = []
    clients = [
        threading.Thread(target=lambda: lines.append(eater.ask("/burns/?s=0.5")[1]))
        for _ in range(2)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    longest = max(lines, key=lambda line: float(line["resp_time"]))
    print({key: longest[key] for key in ("resp_time", *STATES)})
    assert 0.49 <= float(longest["resp_cpu_time"]) <= 0.7
    assert float(longest["resp_blocked"]) >= 0.3


def test_collections_are_timed(eater: Server) -> None:
    """As the view's own clock says, which hangs in `gc.callbacks`, too."""
    answer, line = eater.ask("/collects/")
    seconds, runs = answer.body.decode().split()
    print(f"ours {line['gc_time']} s in {line['gc_runs']}, the view's {seconds} s in {runs}")
    assert float(line["gc_time"]) == pytest.approx(float(seconds), rel=0.1, abs=0.002)
    assert int(line["gc_runs"]) >= int(runs)


def test_surprises_are_said_only_where_there_are_any(eater: Server) -> None:
    """Imports, growth and complaints; an ordinary request has none of these keys."""
    surprises = ("gc_time", "imports", "mem_growth", "log_warnings", "log_errors", "g_open")
    _, line = eater.ask("/grows/")
    assert 30 << 20 <= int(line["mem_growth"]) <= 40 << 20
    _, line = eater.ask("/imports/")
    assert line["imports"] == "1"
    _, line = eater.ask("/complains/")
    assert (line["log_warnings"], line["log_errors"]) == ("2", "1")
    eater.ask("/ok/")
    _, line = eater.ask("/ok/")
    assert not [key for key in surprises if key in line]


def test_late_request_names_its_neighbours(tmp_path: Path) -> None:
    """One route fills the pool: a line that becomes slow beside it says so."""
    arguments = ("-k", "gthread", "--threads", "4")
    slow = {"OTEL_PYTHON_CANONICAL_SLOW_SECONDS": "0.5"}
    with gunicorn("eats_time", tmp_path, *arguments, **slow) as server:
        neighbours = [
            threading.Thread(target=server.get, args=("/burns/?s=1.5",)) for _ in range(3)
        ]
        for neighbour in neighbours:
            neighbour.start()
        eventually(lambda: bool(server.lines()), server.report)
        server.get("/sleeps/?s=1.0", X_Request_ID="late")
        for neighbour in neighbours:
            neighbour.join()
        line = next(
            line
            for line in server.lines()
            if line["req_id"] == "late" and line["event_type"] == "request"
        )
    assert line["g_open"] == "3*burns/ 1*sleeps/"


def test_browser_header_has_sums_only_when_asked_for(tmp_path: Path) -> None:
    """`Server-Timing`: milliseconds so far, and the trace where there is one."""
    caller = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    for wanted in ("false", "true"):
        directory = tmp_path / wanted
        directory.mkdir()
        with gunicorn("eats_time", directory, OTEL_PYTHON_CANONICAL_SERVER_TIMING=wanted) as server:
            answer = server.get("/sleeps/?s=0.2", **caller)
            header = dict(answer.headers).get("Server-Timing")
            [line] = server.wait_for_lines(1)
        if wanted == "false":
            assert header is None
            continue
        assert header is not None
        metrics = dict(part.split(";", 1) for part in header.split(", "))
        assert set(metrics) == {"total", "view", "traceparent"}
        assert 200 <= float(metrics["view"].removeprefix("dur=")) < 1000 * float(line["resp_time"])
        assert line["trace_id"] in metrics["traceparent"]
