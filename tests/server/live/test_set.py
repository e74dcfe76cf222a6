"""`otel-canonical set`: every worker of every class has it within a request, and it goes back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.support.live import (
    CLASSES,
    held,
    open_requests,
    otel_canonical,
    ps_in_process,
    wait_for_pool,
)
from tests.support.servers import Server, eventually, gunicorn
from tests.support.soak import some_of

DEBUG_RECORD = re.compile(r"shop says: asked for ok (\d+)")


def switched(site: Server, *words: str) -> str:
    """Run `set` and return what it shows."""
    done = otel_canonical("set", str(site.pid), *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def debug_records(site: Server) -> list[str]:
    """Return the pids of the workers whose debug records came, in their order."""
    return DEBUG_RECORD.findall(site.stderr.read_text())


@pytest.mark.soak
@pytest.mark.parametrize("name", some_of(CLASSES, "gthread", "gevent"))
def test_level_is_switched_in_all_workers_and_goes_back(name: str, tmp_path: Path) -> None:
    """Also in one that is started later; each change is in Gunicorn's log."""
    arguments, app = CLASSES[name]
    if name == "gevent":
        pytest.importorskip("gevent", reason="pip install gevent")
    environment = {"SITE_DIRECTORY": str(tmp_path)}
    with gunicorn(app, tmp_path, *arguments, workers=2, **environment) as site:
        wait_for_pool(site, lambda pool: all(w["is_booted"] for w in pool["workers"]))
        site.get("/ok/")
        assert debug_records(site) == []
        assert switched(site, "log:live.shop=DEBUG") == "log:live.shop=DEBUG\n"
        site.get("/ok/")
        assert len(debug_records(site)) == 1
        site.wait_for(r"switched log:live.shop=DEBUG\n")
        former = site.workers()
        for pid in former:
            os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: (
                len(set(site.workers()) - set(former)) == 2
                and all(w["is_booted"] for w in ps_in_process(site)["workers"])
            ),
            site.report,
        )
        before = len(debug_records(site))
        site.get("/ok/")
        assert len(debug_records(site)) == before + 1
        assert re.fullmatch(
            r"log:live.shop=DEBUG for [12] s more\n",
            switched(site, "log:live.shop=DEBUG", "--for", "2s"),
        )
        site.wait_for("log:live.shop is as configured again")
        assert switched(site) == "nothing is switched\n"
        before = len(debug_records(site))
        for _ in range(4):
            site.get("/ok/")
        assert len(debug_records(site)) == before


@pytest.mark.soak
@pytest.mark.parametrize("name", some_of(CLASSES, "asgi"))
def test_switched_level_survives_recycling(name: str, tmp_path: Path) -> None:
    """Every request of every worker that Gunicorn replaces has it, the first one included."""
    arguments, app = CLASSES[name]
    if name == "gevent":
        pytest.importorskip("gevent", reason="pip install gevent")
    more = (*arguments, "--max-requests", "3")
    with gunicorn(app, tmp_path, *more, workers=2, SITE_DIRECTORY=str(tmp_path)) as site:
        switched(site, "log:live.shop=DEBUG", "--for", "10m")
        answers = 0

        def has_new_workers() -> bool:
            nonlocal answers
            with contextlib.suppress(ConnectionError, HTTPException):  # its worker was leaving
                assert site.get("/ok/").status == 200
                answers += 1
            eventually(lambda: len(debug_records(site)) >= answers, site.report)
            return len(set(debug_records(site))) > 3

        eventually(has_new_workers, site.report)
        assert re.fullmatch(r"log:live.shop=DEBUG for \d+ s more\n", switched(site))


def test_slow_requests_and_query_strings_are_switched(tmp_path: Path) -> None:
    """A request that runs already is reported, too, and one switch is taken back alone."""
    gate = tmp_path / "gate"
    arguments = ("-k", "gthread", "--threads", "4")
    with (
        gunicorn("live", tmp_path, *arguments, SITE_DIRECTORY=str(tmp_path)) as site,
        held(site, f"/sleeps/long/?for={gate}"),
    ):
        open_requests(site, 1)
        switched(site, "slow_seconds=0.2", "query_string=true")
        _, line = site.ask("/ok/?a=1")
        assert line["req_query"] == "a=1"
        eventually(lambda: any(line["event_type"] == "slow" for line in site.lines()), site.report)
        assert "slow_seconds" not in switched(site, "slow_seconds=")
        _, line = site.ask("/ok/?a=2")
        assert line["req_query"] == "a=2"
        switched(site, "query_string=")
        _, line = site.ask("/ok/?a=3")
        assert "req_query" not in line
        gate.touch()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("slow_seconds=soon", "is not a number of seconds"),
        ("query_string=perhaps", "is not true or false"),
        ("log:shop=LOUD", "is not the name of a level"),
        (
            "max_line=100",
            "can't be switched; what can: slow_seconds, explain_seconds, query_string, log:LOGGER",
        ),
        ("nonsense", "is not NAME=VALUE"),
    ],
)
def test_what_cannot_be_switched_is_refused(word: str, said: str) -> None:
    """Before any pool is looked for."""
    done = otel_canonical("set", word)
    assert done.returncode == 2
    assert said in done.stderr
