"""What surprised a request is on its line, and only then: collections, imports, growth, complaints, neighbours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, eventually, gunicorn

SURPRISES = (
    *("gc_time", "gc_runs", "imports", "mem_growth", "log_warnings", "log_errors", "g_open"),
    "resp_overlap",
)


@pytest.fixture(scope="module")
def eater(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A site whose views spend time in one way each."""
    with gunicorn("eats_time", tmp_path_factory.mktemp("eater")) as server:
        server.get("/ok/")
        yield server


def test_collections_are_timed(eater: Server) -> None:
    """As the view's own clock says, which hangs in `gc.callbacks`, too."""
    answer, line = eater.ask("/collects/")
    found = json.loads(answer.body)
    print(f"ours {line['gc_time']} s in {line['gc_runs']}, the view's {found}")
    assert float(line["gc_time"]) == pytest.approx(found["seconds"], rel=0.1, abs=0.01)
    assert 0 <= int(line["gc_runs"]) - found["runs"] <= 20
    # Inside the places, no place of its own.
    assert float(line["view_time"]) >= found["seconds"]


def test_growth_of_memory_is_that_of_its_request(eater: Server) -> None:
    """A long request has what it has added; what others added before it is never said to be its own."""
    eater.ask("/sleeps/?s=0.02")
    _, line = eater.ask("/grows/")
    assert 30 << 20 <= int(line["mem_growth"]) <= 40 << 20
    eater.ask("/grows_quickly/")
    _, line = eater.ask("/sleeps/?s=0.02")
    assert "mem_growth" not in line


def test_modules_that_were_imported_are_counted(eater: Server) -> None:
    """One module more than before."""
    _, line = eater.ask("/imports/")
    assert line["imports"] == "1"


def test_complaints_of_the_app_are_counted(eater: Server) -> None:
    """Its warnings and errors; neither Django's remark that the status is 404 nor what the server says."""
    _, line = eater.ask("/complains/")
    assert (line["log_warnings"], line["log_errors"]) == ("2", "1")


def test_ordinary_request_has_no_surprises(eater: Server) -> None:
    """None of these keys."""
    eater.ask("/ok/")
    _, line = eater.ask("/ok/")
    assert not [key for key in SURPRISES if key in line]


def at_once(server: Server, *paths: str) -> list[threading.Thread]:
    """Ask for some paths side by side and return when the pool shows that all of them are served."""
    threads = [threading.Thread(target=server.get, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()

    def are_served() -> bool:
        return len(server.lines()) >= len(paths)

    eventually(are_served, server.report)
    return threads


def test_slow_request_names_its_neighbours(tmp_path: Path) -> None:
    """One route fills the pool: its lines say so when they become slow, and so does another's."""
    arguments = ("-k", "gthread", "--threads", "4")
    slow = {"OTEL_PYTHON_CANONICAL_SLOW_SECONDS": "0.5"}
    with gunicorn("eats_time", tmp_path, *arguments, **slow) as server:
        # Three `slow` lines: all of them run.
        neighbours = at_once(server, *["/sleeps/?s=3"] * 3)
        answer = server.get("/burns/?s=1", X_Request_ID="beside")
        assert answer.status == 200
        for neighbour in neighbours:
            neighbour.join()
        lines = server.lines_of("beside", 2)
    assert [line["event_type"] for line in lines] == ["slow", "request"]
    assert [line["g_open"] for line in lines] == ["3*sleeps/ 1*burns/"] * 2


@pytest.mark.parametrize(
    "arguments", [("--workers", "2"), ("-k", "gthread", "--threads", "2")], ids=["sync", "gthread"]
)
def test_late_request_names_what_kept_it_waiting(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """The pool is full of one route; who comes then waits, and its line says what is still open."""
    with gunicorn("eats_time", tmp_path, *arguments) as server:
        server.get("/ok/")
        long = threading.Thread(target=server.get, args=("/sleeps/?s=5",))
        long.start()
        short = threading.Thread(target=server.get, args=("/sleeps/?s=1",))
        short.start()

        # The first that comes when both are served waits for the shorter one.
        seen: list[dict[str, str]] = []
        while not seen and long.is_alive():
            began = time.time()
            _, line = server.ask("/ok/", X_Request_Start=f"t={began:.6f}")
            if float(line["req_queue_time"]) >= 0.5:
                seen.append(line)
            else:
                assert "g_open" not in line
        long.join()
        short.join()
    assert seen[0]["g_open"] == "1*ok/ 1*sleeps/"


def test_lost_request_names_what_else_was_open(tmp_path: Path) -> None:
    """Written by the arbiter, from what the scoreboard shows when it finds the worker dead."""
    with gunicorn("eats_time", tmp_path, "--workers", "2") as server:
        server.get("/ok/")
        neighbour = threading.Thread(target=server.get, args=("/sleeps/?s=3",))
        neighbour.start()
        eventually(lambda: server.ask("/ok/")[1]["g_w_active"] == "2", server.report)
        server.send(b"GET /exits/ HTTP/1.1\r\nHost: a\r\nX-Request-ID: lost\r\n\r\n")
        line = server.line_of("lost")
        neighbour.join()
    assert (line["event_type"], line["g_open"]) == ("lost", "1*exits/ 1*sleeps/")
