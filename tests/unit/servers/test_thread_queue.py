"""Requests that wait for a thread are counted, whatever happens to them."""

from __future__ import annotations

import pytest

from otel_canonical.servers import thread_queue


def test_queue_is_right_when_a_worker_refuses_or_has_none() -> None:
    """Handed over and taken up, in any thread; what was not taken in never waits."""

    class ThreadWorker:
        is_open = True

        def enqueue_req(self, conn: str) -> None:
            if not self.is_open:
                raise RuntimeError("cannot schedule new futures after shutdown")

        def handle(self, conn: str) -> str:
            return conn

    waiting = memoryview(bytearray(8)).cast("q")
    worker = ThreadWorker()
    thread_queue.count_waiting(worker, waiting)
    for conn in ("a", "b"):
        worker.enqueue_req(conn)
    assert waiting[0] == 2
    assert worker.handle("a") == "a"
    worker.is_open = False
    with pytest.raises(RuntimeError, match="after shutdown"):
        worker.enqueue_req("c")
    assert waiting[0] == 1
    thread_queue.count_waiting(object(), waiting)
