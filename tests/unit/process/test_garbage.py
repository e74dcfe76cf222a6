"""Collections are counted and timed while they are watched."""

from __future__ import annotations

import gc
import time

from otel_canonical.process.garbage import Collections


def test_each_collection_adds_to_the_totals() -> None:
    """Once however often it is told to watch; another object each time, so that a change is seen at once."""
    collections = Collections()
    before = collections.totals
    gc.collect()
    assert collections.totals is before
    collections.watch()
    collections.watch()
    try:
        began_ns = time.perf_counter_ns()
        gc.collect()
        elapsed_ns = time.perf_counter_ns() - began_ns
    finally:
        gc.callbacks[:] = [
            known for known in gc.callbacks if getattr(known, "__self__", None) is not collections
        ]
    spent_ns, runs = collections.totals
    assert runs == 1
    assert 0 < spent_ns <= elapsed_ns
    assert collections.totals is not before
