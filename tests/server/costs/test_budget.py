"""Bounds on the calls of our own functions that one request makes.

In a real worker a request's cost is how much code and how many objects it touches, and calls stand
for that. Times are measured in `benchmarks/`, against peers; here a bound keeps what was won there.
Who goes beyond a bound has made every request of every site dearer: look at `names` first, and raise
the bound only with a run of the benchmark beside it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.servers import eventually, gunicorn

#: Everything lazy has happened by then.
WARM = 30

#: By path: calls of our Python functions, and of built-in ones by them. Counted on Python 3.11: 39 and 69, 76
#: and 118. The first request behind a change of the pool's state, once a second, makes four and six more.
BOUNDS = {
    "/ok/": (43, 75),
    "/queries/": (80, 124),
}


@pytest.mark.parametrize("path", list(BOUNDS))
def test_request_calls_few_functions_of_ours_when_nothing_is_exported(
    path: str, tmp_path: Path
) -> None:
    """Line, scoreboard, watchdog and pool facts included."""
    counted = tmp_path / "counted.json"
    with gunicorn(
        "every_kind",
        tmp_path,
        *("-c", "python:counted_calls"),
        COUNTED_REQUEST=str(WARM),
        COUNTED_TO=str(counted),
        SITE_DIRECTORY=str(tmp_path),
    ) as server:
        for _ in range(WARM):
            assert server.get(path).status == 200
        eventually(lambda: counted.exists() and counted.stat().st_size, server.report)
    found = json.loads(counted.read_text())
    python, builtin = BOUNDS[path]
    assert 10 < found["python"] <= python, "\n".join(found["names"])
    assert 10 < found["builtin"] <= builtin, found["builtin"]
