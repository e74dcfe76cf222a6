"""A worker that is killed while it writes a line: the line is there, or its slot says that it isn't."""

from __future__ import annotations

import functools
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

import otel_canonical
from otel_canonical.event.line_writer import LineWriter
from otel_canonical.event.output import LineOutput
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.pool.ledger import Place
from otel_canonical.pool.scoreboard import Scoreboard
from otel_canonical.pool.slots import CLOSING
from otel_canonical.process import identity as process_identity
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.progress import Outputs
from otel_canonical.settings import Settings
from tests.support.forks import fork
from tests.support.servers import eventually
from tests.support.soak import IS_SOAK

pytestmark = pytest.mark.soak

#: (short, long)
KILLS = (20, 200)[IS_SOAK]
KEYS = 500
VIEW_S = 0.02


def serve_for_ever(outputs: Outputs, place: Place, entered: int) -> None:
    """Be a worker whose requests set very many facts; note each of them once it is open."""
    process_identity.claim()
    log = CanonicalLog(Settings(), RootFactory(None, str), outputs, place)
    for number in range(1_000_000):
        scope = log.open("GET", "/many/", {"X-REQUEST-ID": f"r{number}"})
        assert scope is not None
        scope.status = 200
        os.write(entered, f"r{number}\n".encode())
        for key in range(KEYS):
            otel_canonical.set(f"fact_{key}", f"the value number {key}")
        time.sleep(VIEW_S)  # what else a view does
        log.close(scope)


def has_begun(entered: Path) -> bool:
    """Return whether a few requests have been served."""
    return entered.stat().st_size > 12


def test_almost_no_line_is_missing_when_workers_are_killed_while_they_write(tmp_path: Path) -> None:
    """The window is a system call wide, however long a line takes to make."""
    missing = []
    for round_ in range(KILLS):
        lines, entered = tmp_path / f"lines{round_}", tmp_path / f"entered{round_}"
        scoreboard = Scoreboard(1, 1)
        place = Place(scoreboard, scoreboard.take_block() or 0, 0)
        writer = LineWriter(LineOutput(str(lines)), "logfmt", 65536)
        outputs = Outputs(writer.encode, writer.write)
        file = os.open(entered, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        pid = fork(functools.partial(serve_for_ever, outputs, place, file))
        eventually(functools.partial(has_begun, entered), lambda: "no request")
        time.sleep(random.uniform(0, 2 * VIEW_S))  # a random moment of a request
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(file)
        writer.output.close()
        [slot] = place.slots()
        asked = entered.read_text().split()
        written = re.findall(r" req_id=(r\d+)\n", lines.read_text())
        assert len(written) == len(set(written))
        [slot] = place.slots()
        shown = slot.read() if slot.state() != CLOSING else None
        if asked[-1] not in written and (shown is None or shown.texts["request_id"] != asked[-1]):
            missing.append(asked[-1])
        assert set(asked[:-1]) <= set(written)
    print(f"{KILLS} kills, {len(missing)} lines missing")
    assert len(missing) <= 1
