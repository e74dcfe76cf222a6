"""Gunicorn's configuration of `startup.py`: tells how long a worker took from its fork until it is ready.

The hooks run in their usual places in every row: ours and others' come on top of them.
"""

from __future__ import annotations

import os
import time
from typing import Any

_forked = {"wall_ns": 0}


def pre_fork(server: Any, worker: Any) -> None:
    """Note the moment; the last thing that the arbiter does before it forks."""
    _forked["wall_ns"] = time.monotonic_ns()


def post_worker_init(worker: Any) -> None:
    """Write wall and CPU time since the fork; a new process's CPU clock starts at 0."""
    wall_ns = time.monotonic_ns() - _forked["wall_ns"]
    line = f"{wall_ns} {time.process_time_ns()}\n"
    target = os.open(os.environ["BENCHMARK_STARTUP"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(target, line.encode())
    os.close(target)
