"""`otel-canonical ps` and `stacks` against real pools of every worker class."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_canonical import cli
from otel_canonical.pool import layout
from otel_canonical.reading.live import pages
from otel_canonical.reading.problems import CommandFailed
from tests.support.addresses import unused_address
from tests.support.environments import INSTRUMENT
from tests.support.live import (
    CLASSES,
    COMMAND,
    held,
    open_requests,
    otel_canonical,
    ps,
    stacks,
    wait_for_pool,
)
from tests.support.processes import descriptors_of
from tests.support.servers import GUNICORN, eventually, gunicorn
from tests.support.soak import some_of

REFUSES_MEMFD = str(Path(__file__).parents[2] / "support" / "refuses_memfd.py")
#: What answers at once takes this long, s, with the start of an interpreter on a busy machine. The look
#: itself is measured apart.
AT_ONCE_S = 10.0
#: How long `ps` and `ready` take to look, s; the best of some attempts, for a machine with other work.
LOOK_S = 0.05
GREENLETS = 200


def app_lines(place: dict[str, object]) -> list[str]:
    """Return the functions of the app's frames of a stack, outermost first."""
    frames = place["frames"]
    assert isinstance(frames, list)
    return [frame["function"] for frame in frames if frame["is_app"]]


@pytest.mark.soak
@pytest.mark.parametrize("name", some_of(CLASSES, "gthread", "asgi"))
def test_open_requests_and_their_stacks_are_told(name: str, tmp_path: Path) -> None:
    """Asleep, in a query, in a render, in a call; then a thread that holds the GIL."""
    arguments, app = CLASSES[name]
    if name == "gevent":
        pytest.importorskip("gevent", reason="pip install gevent")
    gate = tmp_path / "gate"
    is_asgi = app.endswith("asgi")
    paths = [
        f"/queries/?for={gate}",
        f"/renders/?for={gate}",
        f"/calls/?for={gate}",
        f"/sleeps/one/?for={gate}",
    ]
    if is_asgi:
        # Django runs sync views of one worker one after the other: the second would not begin.
        paths = [paths[0], f"/async-sleeps/one/?for={gate}", f"/async-calls/?for={gate}"]
    count = len(paths)
    environment = {"SITE_DIRECTORY": str(tmp_path)}
    workers = 3 if name == "gthread" else 1
    with gunicorn(app, tmp_path, *arguments, "-t", "300", workers=workers, **environment) as site:
        before = time.monotonic()
        with held(site, *paths):
            wait_for_pool(
                site,
                lambda pool: (
                    len(pool["requests"]) == count
                    and all(request["route"] for request in pool["requests"])
                    and any(request["queries"] == 2 for request in pool["requests"])
                ),
            )
            found = open_requests(site, count)
            took = time.monotonic() - before
            query = found["queries"]
            assert query["queries"] == 2
            assert query["sql"] == "SELECT wait_for(%s) AS ?"
            assert (query["waits_in"], query["state"]) == ("query", "waits")
            assert 0 <= query["waits"] <= query["age"]
            for request in found.values():
                assert 0 <= request["age"] <= took
                assert (request["method"], request["host"]) == ("GET", "localhost")
                assert request["client"] == "127.0.0.1"
                assert request["worker_pid"] in site.workers()
            sleeper = "async-sleeps-one" if is_asgi else "sleeps-one"
            slept = sleeper.partition("-one")[0]
            assert found[sleeper]["route"] == f"{slept}/<slug:name>/"
            assert found[sleeper]["path"] == f"/{slept}/one/"
            assert found[sleeper]["view"] == f"live.{slept.replace('-', '_')}"

            at = {
                request["req_id"]: (app_lines(place), place["told_by"])
                for place in stacks(site)
                for request in place["requests"]
            }
            assert at.keys() == found.keys()
            assert {told_by for _, told_by in at.values()} == {"watchdog"}
            # Without a function of the app's when SQLite's C code has called it back and it sleeps.
            assert at["queries"][0][0] == "queries"
            assert at[sleeper][0][0] == slept.replace("-", "_")
            if is_asgi:
                assert at["async-calls"][0][-1] == "async_calls"
            else:
                assert at["renders"][0][0] == "renders"
                assert at["renders"][0][-1] == "wait_for"
                assert at["calls"][0] == ["calls"]

            holder = "/async-holds-gil/" if is_asgi else "/holds-gil/"
            with held(site, holder):
                name = holder.strip("/")
                with_holder = open_requests(site, count + 1)
                assert name in with_holder
                places = stacks(site)
                [holding] = [
                    place
                    for place in places
                    if name in {request["req_id"] for request in place["requests"]}
                ]
                assert holding["told_by"] in ("py-spy", "dump")
                assert app_lines(holding)[-1] == "holds_gil"
                told = [r["req_id"] for place in places for r in place["requests"]]
                assert sorted(told) == sorted(with_holder)
                for worker in site.workers():
                    os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(site.lines()) >= count + 1, site.report)
        assert {line["event_type"] for line in site.lines()} == {"lost"}


def test_two_hundred_greenlets_are_told_apart(tmp_path: Path) -> None:
    """In two places of one worker: each request has the stack of its own greenlet."""
    pytest.importorskip("gevent", reason="pip install gevent")
    gate = tmp_path / "gate"
    views = [("sleeps", f"/sleeps/{n}/?for={gate}") for n in range(GREENLETS // 2)]
    views += [("renders", f"/renders/{n}/?for={gate}") for n in range(GREENLETS // 2)]
    with gunicorn("live", tmp_path, "-k", "gevent", SITE_DIRECTORY=str(tmp_path)) as site:
        with held(site, *(path for _, path in views)):
            found = open_requests(site, GREENLETS)
            assert all(request["route"] for request in found.values())
            at = {
                request["req_id"]: app_lines(place)[0]
                for place in stacks(site)
                for request in place["requests"]
            }
            assert at == {f"{view}-{n}": view for view in ("sleeps", "renders") for n in range(100)}
            gate.touch()
        eventually(lambda: len(site.lines()) == GREENLETS, site.report)


def test_workers_and_pool_are_told(tmp_path: Path) -> None:
    """Versions, bind, numbers, pids, heartbeats, memory, lines; then a death by its cause."""
    with gunicorn("live", tmp_path, workers=3, SITE_DIRECTORY=str(tmp_path)) as site:
        wait_for_pool(site, lambda pool: all(w["is_booted"] for w in pool["workers"]))
        for number in range(5):
            site.get("/ok/", X_Request_ID=f"a{number}")
        wait_for_pool(site, lambda pool: pool["lines"].get("request") == 5)
        pool = ps(site)
        host, port = site.address
        assert (pool["pid"], pool["state"]) == (site.pid, "running")
        assert pool["bind"] == [f"http://{host}:{port}"]
        assert pool["versions"].keys() == {"gunicorn", "otel-canonical", "python"}
        assert (pool["slots"], pool["busy"], pool["backlog"]) == (3, 0, 0)
        assert pool["requests"] == []
        workers = pool["workers"]
        assert [worker["number"] for worker in workers] == [0, 1, 2]
        assert {worker["pid"] for worker in workers} == set(site.workers())
        assert sum(worker["requests"] for worker in workers) == 5
        assert all(worker["memory"] > 10_000_000 for worker in workers)
        assert all(worker["heartbeat"] is not None for worker in workers)
        os.kill(workers[0]["pid"], signal.SIGKILL)
        wait_for_pool(site, lambda pool: pool["deaths"] == {"SIGKILL": 1})
        wait_for_pool(site, lambda pool: len(pool["workers"]) == 3)
        text = otel_canonical("ps", str(site.pid))
        assert text.returncode == 0
        assert "workers 3 of 3" in text.stdout
        assert "died since start: 1 SIGKILL" in text.stdout


def test_pool_that_is_stuck_or_stopped_is_told_at_once(tmp_path: Path) -> None:
    """Nobody in it can answer, and nobody is asked."""
    gate = tmp_path / "gate"
    with gunicorn("live", tmp_path, "-t", "300", workers=2, SITE_DIRECTORY=str(tmp_path)) as site:
        with held(site, *[f"/sleeps/n{n}/?for={gate}" for n in range(2)]):
            open_requests(site, 2)
            with held(site, "/ok/"):
                wait_for_pool(site, lambda pool: pool["backlog"] == 1)
                done = otel_canonical("ready", str(site.pid), "--min-idle", "1")
                assert done.returncode == 1
                assert done.stdout == "not ready: 0 of 2 workers idle (--min-idle 1), backlog 1\n"
                done = otel_canonical("ready", str(site.pid), "--max-backlog", "0")
                assert done.returncode == 1
                assert (
                    done.stdout == "not ready: 0 of 2 workers idle, backlog 1 (--max-backlog 0)\n"
                )
                eventually(
                    lambda: otel_canonical("ready", str(site.pid)).returncode == 0, site.report
                )
                os.kill(site.pid, signal.SIGSTOP)
                try:
                    began = time.monotonic()
                    done = otel_canonical("ready", str(site.pid))
                    assert time.monotonic() - began < AT_ONCE_S
                    assert done.returncode == 1
                    assert done.stdout.startswith(
                        "not ready: the arbiter is stopped; 2 of 2 workers"
                    )
                    text = otel_canonical("ps", str(site.pid)).stdout
                    assert f"the arbiter is stopped (SIGSTOP?): kill -CONT {site.pid}" in text
                    assert "GET /sleeps/n0/" in text
                    for words in (["ready", str(site.pid)], ["ps", "--json", str(site.pid)]):
                        best_s = min(took_s(words) for _ in range(20))
                        print(f"\n{words[0]}: {best_s * 1e3:.1f} ms")
                        assert best_s < LOOK_S
                finally:
                    os.kill(site.pid, signal.SIGCONT)
            gate.touch()
        eventually(lambda: otel_canonical("ready", str(site.pid)).returncode == 0, site.report)


def took_s(words: list[str]) -> float:
    """Return how long a command takes without the start of its interpreter."""
    shown = io.StringIO()
    began = time.monotonic()
    with contextlib.redirect_stdout(shown):
        cli.main(words)
    took = time.monotonic() - began
    assert "stopped" in shown.getvalue()
    return took


def as_nobody(*command: str) -> list[str]:
    """Return a command that runs another as a user without any rights."""
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]


def test_other_users_see_nothing(tmp_path: Path) -> None:
    """Exit 4, and who may look; also when they don't name the pool."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    with (
        gunicorn("live", tmp_path, SITE_DIRECTORY=str(tmp_path)) as site,
        held(site, f"/sleeps/secret/?for={tmp_path}/gate"),
    ):
        open_requests(site, 1)
        for arguments in (["ps", str(site.pid)], ["stacks", str(site.pid)], ["ps"], ["ready"]):
            done = otel_canonical(*arguments, prefix=as_nobody())
            assert done.returncode == 4, done.stdout + done.stderr
            assert "root" in done.stderr
            assert "secret" not in done.stdout + done.stderr
        done = otel_canonical("set", str(site.pid), "slow_seconds=1", prefix=as_nobody())
        assert done.returncode == 4


def test_no_capability_is_needed(tmp_path: Path) -> None:
    """The arbiter's own user may look, be it that this user has no rights beyond its own."""
    # For root: keep the user, drop all that root may.
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []
    command = [*without, *INSTRUMENT, *GUNICORN]
    with (
        gunicorn("live", tmp_path, command=command, SITE_DIRECTORY=str(tmp_path)) as site,
        held(site, f"/sleeps/own/?for={tmp_path}/gate"),
    ):
        open_requests(site, 1)
        rights = Path(f"/proc/{site.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in rights
        # Just started it isn't.
        eventually(
            lambda: otel_canonical("ready", str(site.pid), prefix=without).returncode == 0,
            site.report,
        )
        for name in ("ps", "stacks", "set"):
            done = otel_canonical(name, str(site.pid), prefix=without)
            assert done.returncode == 0, done.stderr
        done = otel_canonical("ps", str(site.pid), "--json", prefix=without)
        [pool] = json.loads(done.stdout)["pools"]
        assert pool["requests"][0]["req_id"] == "sleeps-own"
        done = otel_canonical("stacks", str(site.pid), "--json", prefix=without)
        [place] = json.loads(done.stdout)["pools"][0]["stacks"]
        assert place["told_by"] == "watchdog"


def test_pool_is_seen_from_inside_and_outside_of_its_container(tmp_path: Path) -> None:
    """As PID 1 of a pid namespace; the host sees other pids, and translates them."""
    if os.getuid() != 0:
        pytest.skip("needs root, to make a pid namespace")
    command = ["unshare", "-pf", "--mount-proc", *INSTRUMENT, *GUNICORN]
    with gunicorn("live", tmp_path, command=command, SITE_DIRECTORY=str(tmp_path)) as site:
        [arbiter] = eventually(site.children, site.report)
        with held(site, f"/sleeps/inside/?for={tmp_path}/gate"):

            def seen() -> dict[str, object]:
                done = otel_canonical("ps", str(arbiter), "--json")
                assert done.returncode == 0, done.stderr
                [pool] = json.loads(done.stdout)["pools"]
                return pool if pool["requests"] else {}

            pool = eventually(seen, site.report)
            workers = Path(f"/proc/{arbiter}/task/{arbiter}/children").read_text().split()
            assert [str(worker["pid"]) for worker in pool["workers"]] == workers
            inside = ["nsenter", "-t", str(arbiter), "-p", "-m", "-r"]
            done = otel_canonical("ps", "1", "--json", prefix=inside)
            assert done.returncode == 0, done.stderr
            [own] = json.loads(done.stdout)["pools"]
            assert own["pid"] == 1
            assert own["requests"][0]["req_id"] == "sleeps-inside"
            done = otel_canonical("stacks", str(arbiter), "--json")
            assert json.loads(done.stdout)["pools"][0]["stacks"][0]["told_by"] == "watchdog"


def test_commands_say_when_memfd_is_refused(tmp_path: Path) -> None:
    """The pool works, nobody can see it, and that is said."""
    command = [sys.executable, REFUSES_MEMFD, "EPERM", *INSTRUMENT, *GUNICORN]
    with gunicorn("live", tmp_path, command=command, SITE_DIRECTORY=str(tmp_path)) as site:
        assert site.get("/ok/").status == 200
        for name in ("ps", "ready", "stacks", "set"):
            done = otel_canonical(name, str(site.pid))
            assert done.returncode == 3
            assert "the kernel refuses it a memfd" in done.stderr


def test_another_layout_is_said_not_guessed(tmp_path: Path) -> None:
    """Of a pool that a later version has started."""
    with gunicorn("live", tmp_path, SITE_DIRECTORY=str(tmp_path)) as site:
        assert otel_canonical("ps", str(site.pid)).returncode == 0
        [page] = [
            path
            for path in Path(f"/proc/{site.pid}/fd").iterdir()
            if layout.MEMFD_NAME in os.readlink(path)
        ][:1]
        with page.open("r+b") as scoreboard:
            scoreboard.seek(8)
            scoreboard.write((layout.VERSION + 1).to_bytes(4, sys.byteorder))
        done = otel_canonical("ps", str(site.pid))
        assert done.returncode == 3
        assert f"has layout {layout.VERSION + 1}; this command reads layout" in done.stderr


def test_no_pool_and_wrong_usage_have_exit_codes(tmp_path: Path) -> None:
    """3 and 2, with a sentence."""
    done = otel_canonical("ps", str(os.getpid()))
    assert (done.returncode, "shows no pool" in done.stderr) == (3, True)
    done = otel_canonical("ready", "--bind", "127.0.0.1:1")
    assert done.returncode in (3, 4)
    assert otel_canonical("ps", "--no-such-option").returncode == 2
    missing = tmp_path / "no.pid"
    assert otel_canonical("ps", "--pid-file", str(missing)).returncode == 3
    assert subprocess.run([*COMMAND, "top"], capture_output=True, check=False).returncode == 2


def test_pool_is_chosen_by_pid_file_or_bind(tmp_path: Path) -> None:
    """Or by any of its workers' pids."""
    pid_file = tmp_path / "gunicorn.pid"
    with gunicorn("live", tmp_path, "--pid", str(pid_file), SITE_DIRECTORY=str(tmp_path)) as site:
        host, port = site.address
        for arguments in (
            ["--pid-file", str(pid_file)],
            ["--bind", f"{host}:{port}"],
            [str(site.workers()[0])],
        ):
            done = otel_canonical("ps", "--json", *arguments)
            assert done.returncode == 0, done.stderr
            assert [pool["pid"] for pool in json.loads(done.stdout)["pools"]] == [site.pid]


def test_pool_whose_workers_listen_is_chosen_by_its_bind(tmp_path: Path) -> None:
    """With `--reuse-port` the arbiter has no listener."""
    bind = unused_address()
    with gunicorn(
        "live", tmp_path, "--reuse-port", bind=bind, SITE_DIRECTORY=str(tmp_path)
    ) as site:
        assert ps(site)["bind"] == [f"http://{bind}"]
        done = otel_canonical("ps", "--json", "--bind", bind)
        assert [pool["pid"] for pool in json.loads(done.stdout)["pools"]] == [site.pid]


def test_process_that_looks_on_is_no_pool(tmp_path: Path) -> None:
    """It has the memory of a pool open that has ended: there is no such pool any more."""
    choice = argparse.Namespace(pid=None, pid_file=None, bind=None)
    with gunicorn("live", tmp_path, SITE_DIRECTORY=str(tmp_path)) as site:
        choice.pid = site.pid
        [pool] = pages.find(choice)
        own = Path(f"/proc/self/fd/{pool.pages[0].fd}").readlink()
        assert layout.MEMFD_NAME in str(own)
    choice.pid = os.getpid()
    with pytest.raises(CommandFailed, match="shows no pool"):
        pages.find(choice)
    choice.pid = None
    with contextlib.suppress(CommandFailed):  # there may be pools of others
        assert not {os.getpid(), site.pid} & {found.pid for found in pages.find(choice)}


def test_looks_leave_no_descriptor_open(tmp_path: Path) -> None:
    """As many as `top` takes in a minute."""
    with gunicorn("live", tmp_path, SITE_DIRECTORY=str(tmp_path)) as site:
        choice = argparse.Namespace(pid=site.pid, pid_file=None, bind=None)
        before = descriptors_of(os.getpid())
        for _ in range(60):
            assert pages.one(choice).pid == site.pid
        assert descriptors_of(os.getpid()) == before
