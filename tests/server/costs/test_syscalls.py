"""Bounds on the system calls that one request makes, counted by strace."""

from __future__ import annotations

import collections
import re
from pathlib import Path

from tests.support.environments import INSTRUMENT
from tests.support.peers.tools import require_tool
from tests.support.servers import GUNICORN, gunicorn

REQUESTS = 12
#: The first ones import and fill caches.
WARM_UP = 4
CALL = re.compile(r"^(\d+) +([a-z_0-9]+)\(")

#: A request's line is one `write`; its CPU time is the one clock that the kernel must be asked for, at
#: its beginning and at its end; so is its wait for a CPU, read from a file that stays open. How full the
#: pool is costs none.
OURS = collections.Counter(write=1, clock_gettime=2, pread64=2)

#: A look at resident memory: once in a second, and in requests of 10 ms, as which any may pass under strace.
SELDOM = re.compile(r"pread64\(\d+, .*, 128, 0\)")


def calls_of_a_request(directory: Path, *arguments: str, command: list[str]) -> dict[str, int]:
    """Return the system calls that most requests made, from one accept to the next.

    Without those of a worker that waits: on a busy machine the next request is there already.
    """
    strace = require_tool("strace", "apt-get install strace")
    trace = directory / "trace"
    directory.mkdir()
    traced = [strace, "-f", "-qq", "-o", str(trace), *command]
    with gunicorn("waits", directory, *arguments, command=traced) as site:
        for _ in range(REQUESTS):
            site.get("/ok/")
    requests: list[collections.Counter[str]] = []
    worker, waits = None, False
    for line in trace.read_text(errors="replace").splitlines():
        call = CALL.match(line)
        if call is None:
            continue
        if call[2] == "accept4":
            waits = " = -1" in line
            if not waits:
                worker = call[1]
                requests.append(collections.Counter())
        if call[1] == worker and not waits and not SELDOM.search(line):
            requests[-1][call[2]] += 1
    # The last goes on until the server ends.
    kinds = collections.Counter(frozenset(one.items()) for one in requests[WARM_UP:-1])
    return dict(kinds.most_common(1)[0][0])


def test_pool_facts_cost_no_system_call(tmp_path: Path) -> None:
    """Beside Gunicorn alone a request makes the calls that its line and its states need, no other."""
    bare = calls_of_a_request(tmp_path / "bare", command=GUNICORN)
    ours = calls_of_a_request(tmp_path / "ours", command=[*INSTRUMENT, *GUNICORN])
    print(bare, ours)
    assert collections.Counter(ours) - collections.Counter(bare) == OURS
    assert collections.Counter(bare) - collections.Counter(ours) == {}
