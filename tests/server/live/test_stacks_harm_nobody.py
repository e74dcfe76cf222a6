"""Thousands of looks at pools that work: no worker dies, no call is cut short, no line is missing."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from otel_canonical.pool import counters
from otel_canonical.reading.live import outside, pages, processes
from otel_canonical.reading.live.pools import read_pool
from otel_canonical.reading.live.shapes import LiveWorker
from otel_canonical.reading.live.where import locate
from tests.support.live import held, open_requests, ps, wait_for_pool
from tests.support.load import under_load
from tests.support.postgres import postgres
from tests.support.servers import Server, eventually, gunicorn
from tests.support.soak import IS_SOAK, some_of

pytestmark = pytest.mark.soak

#: Looks at the stacks of one pool (short, long).
LOOKS = (25, 5000)[IS_SOAK]
#: Where CPython 3.11 would crash after some tens of them.
LOOKS_WHILE_COLLECTING = (150, 5000)[IS_SOAK]
#: Of requests that are looked at and others, in turns (short, long).
ROUNDS = (2, 10)[IS_SOAK]
LOOKS_ON = str(Path(__file__).parents[2] / "support" / "looks_on.py")
ARGUMENTS = ("-k", "gthread", "--threads", "4", "-t", "120")
#: Workers that stay, that are replaced all the time, and that collect garbage all the time.
KINDS = ("steady", "recycling", "collecting")


def look(site: Server) -> list[str]:
    """Ask for the stacks as the command does, without an interpreter for it; return who told them."""
    choice = argparse.Namespace(pid=site.pid, pid_file=None, bind=None)
    return [place.told_by for place in locate(read_pool(pages.one(choice), with_memory=False))]


def look_on(site: Server, looks: int) -> list[str]:
    """Look that often while a request is open; return who told the stacks."""
    told: list[str] = []
    for _ in range(looks):
        # No request is open while all workers are being replaced.
        told += eventually(lambda: look(site), site.report)
    return told


@pytest.mark.parametrize("kind", some_of(KINDS, "recycling", "collecting"))
def test_looking_kills_nobody_and_loses_no_line(kind: str, tmp_path: Path) -> None:
    """Frame-heavy Python in four threads of two workers, that stay or are replaced all the time.

    CPython 3.11 may collect garbage while it makes the object of a frame, and let the frame's thread go on.
    """
    recycles = kind == "recycling"
    more = ("--max-requests", "25") if recycles else ()
    environment = {"SITE_DIRECTORY": str(tmp_path)}
    looks = LOOKS
    if kind == "collecting":
        environment["SITE_COLLECTS_EVERY"], looks = "5", LOOKS_WHILE_COLLECTING
    with gunicorn("live", tmp_path, *ARGUMENTS, *more, workers=2, **environment) as site:
        with under_load(site, ("/spins/?s=0.02", "/ok/")) as load:
            told = look_on(site, looks)
            load.wait_for_answers()
        counts = load.account()
        assert set(counts) == {"request"}
        assert set(told) <= {"watchdog", "py-spy", ""}
        deaths = ps(site)["deaths"]
        assert set(deaths) <= ({"exit:0", "shutdown"} if recycles else set()), deaths
        print(
            f"\n{len(told)} stacks: {told.count('watchdog')} by watchdogs, {told.count('py-spy')} by py-spy"
        )


def test_wait_for_a_lock_is_not_cut_short(tmp_path: Path) -> None:
    """SQLite's busy handler sleeps; a signal would wake it."""
    with gunicorn("live", tmp_path, *ARGUMENTS, SITE_DIRECTORY=str(tmp_path)) as site:
        answers: list[float] = []

        def ask() -> None:
            answers.append(json.loads(site.get("/waits-for-lock/?s=1.5").body)["waited"])

        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        wait_for_pool(site, lambda pool: len(pool["requests"]) == 3)
        while any(client.is_alive() for client in clients):
            look(site)
        for client in clients:
            client.join()
        assert len(answers) == 3
        assert min(answers) > 0.5


@pytest.mark.parametrize("kind", some_of(["steady", "recycling"], "recycling"))
def test_blocking_calls_are_not_cut_short(kind: str, tmp_path: Path) -> None:
    """SQLite waits for a lock, libpq for a row, requests for bytes: each view checks that it waited."""
    recycles = kind == "recycling"
    more = ("--max-requests", "20") if recycles else ()
    paths = [f"/{name}/?s=0.2" for name in ("reads-postgres", "waits-for-lock", "reads-http")]
    with postgres() as directory:
        environment = {
            "SITE_DIRECTORY": str(tmp_path),
            "SITE_POSTGRES": f"host={directory} user=postgres dbname=postgres",
        }
        with gunicorn("live", tmp_path, *ARGUMENTS, *more, workers=2, **environment) as site:
            with under_load(site, (*paths, "/ok/")) as load:
                told = look_on(site, LOOKS)
                load.wait_for_answers()
            # Each answer is a 200: a view answers 500 if its call came back early.
            assert set(load.account()) == {"request"}
            assert not load.broken, f"{load.troubles}\n{site.report()}"
            deaths = ps(site)["deaths"]
    assert set(deaths) <= ({"exit:0", "shutdown"} if recycles else set()), deaths
    assert told.count("watchdog") > LOOKS / 2
    print(f"\n{LOOKS} looks, {len(load.answered)} answers, {told.count('watchdog')} by watchdogs")


def test_requests_take_no_longer_while_they_are_looked_at(tmp_path: Path) -> None:
    """Ten looks a second at a worker with other requests that are open; both distributions are printed."""
    gate, looks = tmp_path / "gate", tmp_path / "looks"
    looks.touch()
    alone: list[float] = []
    looked_at: list[float] = []

    def looks_so_far() -> int:
        return looks.read_bytes().count(b"\n")

    with gunicorn("live", tmp_path, *ARGUMENTS, SITE_DIRECTORY=str(tmp_path)) as site:
        with held(site, f"/sleeps/one/?for={gate}", f"/sleeps/two/?for={gate}"):
            open_requests(site, 2)
            # In turns, so that what else runs on the machine disturbs both alike.
            for _ in range(ROUNDS):
                alone += [took(site) for _ in range(200)]
                with looks.open("ab") as out:
                    looker = subprocess.Popen([sys.executable, LOOKS_ON, str(site.pid)], stdout=out)
                try:
                    begin = looks_so_far() + 1
                    eventually(lambda: looks_so_far() >= begin, site.report)  # noqa: B023
                    while looks_so_far() < begin + 10:
                        looked_at += [took(site) for _ in range(20)]
                finally:
                    looker.kill()
                    looker.wait()
            gate.touch()
        for name, times in (("alone", alone), ("looked at", looked_at)):
            deciles = statistics.quantiles(times, n=20)
            print(
                f"\n{name}: {len(times)} requests, p50 {deciles[9]:.2f} ms, p95 {deciles[18]:.2f} ms, "
                f"max {max(times):.1f} ms"
            )
        # A machine with other work scatters more than any look costs; a look that stopped the worker
        # for the two seconds that it may wait would show.
        assert statistics.median(looked_at) < statistics.median(alone) + 50


def dumped_bytes(worker: LiveWorker) -> int:
    """Return how much the interpreter of a worker has ever dumped on the signal of last resort."""
    fd = processes.open_fd(worker.pid, worker.words[counters.DUMP_FD] - 1, os.O_RDONLY)
    assert fd is not None
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def test_signal_is_the_last_resort_and_shows_the_holder_of_the_gil(tmp_path: Path) -> None:
    """Never for a worker that answers; for one that doesn't, to its watchdog's thread, and it lives on."""
    gate = tmp_path / "gate"
    with gunicorn("live", tmp_path, *ARGUMENTS, SITE_DIRECTORY=str(tmp_path)) as site:
        choice = argparse.Namespace(pid=site.pid, pid_file=None, bind=None)
        with held(site, f"/sleeps/one/?for={gate}"):
            open_requests(site, 1)
            look_on(site, 20)
            [worker] = read_pool(pages.one(choice)).workers
            assert worker.words[counters.DUMP_SIGNAL]
            assert dumped_bytes(worker) == 0
            with held(site, "/holds-gil/"):
                open_requests(site, 2)
                stacks = outside.by_dump(worker)
                assert stacks is not None
                functions = {frames[-1][2] for frames in stacks.values() if frames}
                assert any(
                    "holds_gil" in {frame[2] for frame in frames} for frames in stacks.values()
                )
                assert "wait_for" in functions
                assert dumped_bytes(worker) > 0
                assert site.workers() == [worker.pid]
                os.kill(worker.pid, signal.SIGSTOP)
                # It could not react now, and would be healthy later.
                assert outside.by_dump(worker) is None
                os.kill(worker.pid, signal.SIGCONT)
                os.kill(worker.pid, signal.SIGKILL)


def test_worker_that_runs_python_is_sent_no_signal(tmp_path: Path) -> None:
    """However often it is asked for: its watchdog gets the GIL between two of its calls."""
    with gunicorn("live", tmp_path, *ARGUMENTS, SITE_DIRECTORY=str(tmp_path)) as site:
        choice = argparse.Namespace(pid=site.pid, pid_file=None, bind=None)
        with under_load(site, ("/spins/?s=0.2",)) as load:
            [worker] = read_pool(pages.one(choice)).workers
            for _ in range(ROUNDS):
                assert outside.by_dump(worker) is None
            assert dumped_bytes(worker) == 0
            load.wait_for_answers()
        assert set(load.account()) == {"request"}
        assert site.workers() == [worker.pid]


def took(site: Server) -> float:
    """Return how long one answer took, ms."""
    started = time.perf_counter()
    assert site.get("/ok/").status == 200
    return (time.perf_counter() - started) * 1e3
