"""`otel-canonical ready`: a probe that asks no worker, so it never queues behind requests.

A pool is ready when its arbiter works, at least one worker has loaded the app and beats, and the bounds
that the options name are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

from otel_canonical.reading.live import pages
from otel_canonical.reading.live.pools import read_pool
from otel_canonical.reading.live.shapes import LivePool, LiveWorker
from otel_canonical.reading.wording import duration

SUMMARY = "exit 0 if a pool can take requests, 1 if not: a probe for Kubernetes and load balancers"

NOT_READY = 1
#: The arbiter looks at the pool once a second; a reload may keep it from that for a moment.
LATE_ARBITER_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    pages.add_choice(parser)
    parser.add_argument(
        "--max-backlog", type=int, metavar="N", help="not ready if more connections wait"
    )
    parser.add_argument(
        "--min-idle", type=int, metavar="N", help="not ready if fewer workers have a free slot"
    )
    parser.add_argument("--json", action="store_true", help="write JSON, see docs/LIVE.md")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a pool is ready, and one sentence that says why."""

    is_ready: bool
    sentence: str
    beating: int
    idle: int
    backlog: int | None


def run(options: argparse.Namespace) -> int:
    """Judge the one pool that the options choose."""
    pool = read_pool(pages.one(options), with_memory=False)
    verdict = judge(pool, options.max_backlog, options.min_idle)
    if options.json:
        facts = {
            "pid": pool.pid,
            "ready": verdict.is_ready,
            "reason": verdict.sentence,
            "workers": len(pool.workers),
            "beating": verdict.beating,
            "idle": verdict.idle,
            "backlog": verdict.backlog,
        }
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        sys.stdout.write(
            ("ready: " if verdict.is_ready else "not ready: ") + verdict.sentence + "\n"
        )
    return 0 if verdict.is_ready else NOT_READY


def judge(pool: LivePool, max_backlog: int | None = None, min_idle: int | None = None) -> Verdict:
    """Return the verdict on a pool."""
    timeout_s = pool.facts.get("timeout_s") or 0
    beating = [worker for worker in pool.workers if _beats(worker, timeout_s)]
    idle = [worker for worker in beating if worker.busy < worker.slots]
    all_of = len(pool.workers)
    backlog = "unknown" if pool.backlog is None else str(pool.backlog)
    how = f"{len(beating)} of {all_of} workers beat, {len(idle)} idle, backlog {backlog}"
    failed = ""
    if pool.state != "running":
        failed = f"the arbiter is {pool.state}; {how}"
    elif pool.facts_age is None:
        failed = "the arbiter has just started"
    elif pool.facts_age > LATE_ARBITER_S:
        failed = f"the arbiter was last seen working {duration(pool.facts_age)} ago; {how}"
    elif not beating:
        failed = f"0 of {all_of} workers beat{_oldest(pool.workers)}, backlog {backlog}"
    elif max_backlog is not None and pool.backlog is not None and pool.backlog > max_backlog:
        failed = (
            f"{len(idle)} of {all_of} workers idle, backlog {backlog} (--max-backlog {max_backlog})"
        )
    elif min_idle is not None and len(idle) < min_idle:
        failed = f"{len(idle)} of {all_of} workers idle (--min-idle {min_idle}), backlog {backlog}"
    return Verdict(not failed, failed or how, len(beating), len(idle), pool.backlog)


def _beats(worker: LiveWorker, timeout_s: float) -> bool:
    """Return whether a worker has loaded the app and goes on telling the arbiter that it is alive.

    An idle worker does so every half timeout at the latest, or every second.
    """
    if worker.state != "running" or not worker.is_booted:
        return False
    if not timeout_s or worker.heartbeat is None:
        return True
    return worker.heartbeat <= timeout_s / 2 + 1


def _oldest(workers: list[LiveWorker]) -> str:
    beats = [worker.heartbeat for worker in workers if worker.heartbeat is not None]
    return f" (last {duration(min(beats))} ago)" if beats else ""
