"""Reloads of a busy server: every request still has its one line."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.support.busy_servers import (
    LOADED_CLASSES,
    WORKERS,
    assert_books_balance,
    assert_descriptors_are,
    assert_each_line_has_its_root,
    assert_pool_is_counted,
    busy,
    exporting_to,
    gather_lines,
    in_greenlets,
    in_sync,
    in_threads,
    started,
)
from tests.support.load import CLIENTS, said_by, under_load
from tests.support.operating import renew_workers
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import descriptors_of, processes_of
from tests.support.servers import (
    PATIENCE_S,
    Line,
    eventually,
    gunicorn,
)

pytestmark = pytest.mark.soak


@in_sync
def test_reload(worker_class: str, tmp_path: Path) -> None:
    """SIGHUP: old workers finish what they have, new ones take over."""
    with busy(worker_class, tmp_path) as (server, load):
        before = descriptors_of(server.pid)
        for _ in range(2):
            renew_workers(server)
            load.wait_for_answers()
        assert_books_balance(load, worker_class)
        assert_descriptors_are(server, before)
    assert not load.refused


@in_greenlets
def test_reload_when_exporting(worker_class: str, exported_to: OtlpSink, tmp_path: Path) -> None:
    """SIGHUP: what the old workers' exporters still held arrives."""
    with busy(worker_class, tmp_path, **exporting_to(exported_to)) as (server, load):
        renew_workers(server)
        load.wait_for_answers()
        load.stop()
        load.account()
        assert_each_line_has_its_root(load, exported_to)


def test_reload_that_changes_our_output(tmp_path: Path) -> None:
    """SIGHUP with another file for the lines: the arbiter doesn't keep the old one."""
    conf, outputs = tmp_path / "conf.py", [tmp_path / f"{n}.log" for n in range(4)]

    def write_to(output: Path) -> None:
        conf.write_text(f"raw_env = ['OTEL_PYTHON_CANONICAL_OUTPUT={output}']\n")

    write_to(outputs[0])
    with busy("sync", tmp_path, "-c", str(conf)) as (server, load):
        for output in outputs[1:]:
            write_to(output)
            renew_workers(server)
            load.wait_for_answers()
        load.stop()
        gather_lines(load, tmp_path / "all", lambda: outputs)
        assert load.account().keys() == {"request"}
        assert [str(output) in descriptors_of(server.pid) for output in outputs] == [
            *(False, False, False),
            True,
        ]


def test_switched_off_and_on_by_reloads(tmp_path: Path) -> None:
    """OTEL_PYTHON_CANONICAL_ENABLED changes with a reload: no line while off, right counts when on."""
    conf = tmp_path / "conf.py"

    def enable(enabled: str) -> None:
        conf.write_text(f"raw_env = ['OTEL_PYTHON_CANONICAL_ENABLED={enabled}']\n")

    enable("true")
    with started("sync", tmp_path, "-c", str(conf)) as server:
        before = descriptors_of(server.pid)
        with under_load(server) as load:
            enable("false")
            renew_workers(server)
            lines = len(load.lines())
            load.wait_for_answers()
        assert len(load.lines()) == lines
        enable("true")
        renew_workers(server)
        assert_pool_is_counted(server, "sync")
        assert_descriptors_are(server, before)


@pytest.mark.parametrize("broken", ["import", "boot"])
@in_threads
def test_reload_of_what_no_longer_starts(
    broken: str, worker_class: str, exported_to: OtlpSink, tmp_path: Path
) -> None:
    """SIGHUP to an app that fails: Gunicorn gives up; the user reads why, and not a word of ours."""
    conf, module = tmp_path / "conf.py", tmp_path / "site_of_today.py"
    module.write_text("from stuck import application\n")
    conf.write_text("")
    arguments = (*LOADED_CLASSES[worker_class], "-c", str(conf), "--pythonpath", str(tmp_path))
    with gunicorn(
        "site_of_today", tmp_path, *arguments, workers=WORKERS, **exporting_to(exported_to)
    ) as server:
        with under_load(server) as load:
            said = server.stderr.stat().st_size
            if broken == "import":
                module.write_text("import no_such_package_today\n")
            else:
                conf.write_text(
                    "def post_fork(server, worker):\n    raise OSError('no such day')\n"
                )
            os.kill(server.pid, signal.SIGHUP)
            assert server.process.wait(PATIENCE_S) in (
                1,
                3,
            )  # 1: Gunicorn's own, of two failing at once
            eventually(lambda: load.refused > CLIENTS, lambda: said_by(server))
        assert load.account().keys() == {"request"}
        assert_each_line_has_its_root(load, exported_to)
    words = server.stderr.read_text()[said:]
    assert ("no_such_package_today" if broken == "import" else "no such day") in words
    assert not re.search("otel-canonical[ :]", words)  # it may be in a path of the traceback
    eventually(lambda: not processes_of(tmp_path), lambda: str(processes_of(tmp_path)))


@in_threads
def test_reload_when_a_file_changes(worker_class: str, tmp_path: Path) -> None:
    """`--reload`: an edited app is served anew; one with a syntax error answers 500, with lines."""
    module = tmp_path / "edited.py"
    module.write_text("from stuck import application\n")
    arguments = ("--reload", "--reload-engine", "poll", "--pythonpath", str(tmp_path))
    with gunicorn(
        "edited", tmp_path, *LOADED_CLASSES[worker_class], *arguments, workers=WORKERS
    ) as server:
        with under_load(server) as load:
            old = set(server.workers())
            moments = itertools.count(time.time_ns(), 10**9)

            def is_touched() -> bool:
                # Again and again: a change before a worker's first look isn't one to it.
                moment = next(moments)
                os.utime(module, ns=(moment, moment))
                return True

            eventually(
                lambda: is_touched() and not old & set(server.workers()), lambda: said_by(server)
            )
            eventually(lambda: len(server.workers()) == WORKERS, lambda: said_by(server))
            load.wait_for_answers()
        assert load.account().keys() == {"request"}
        assert_pool_is_counted(server, worker_class)
        assert "Traceback" not in server.report()
        module.write_text("this is no Python\n")

        def failed() -> Line | None:
            # One worker may still serve the app as it was, while the other serves the broken one.
            is_touched()
            answer, line = server.ask("/ok/")
            return line if answer.status == 500 else None

        line = eventually(failed, lambda: said_by(server))
        assert (line["resp_status"], line["event_type"]) == ("500", "request")
    eventually(lambda: not processes_of(tmp_path), lambda: str(processes_of(tmp_path)))
