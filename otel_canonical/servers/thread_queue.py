"""The seam to the queue of a threaded worker: requests it has accepted and no thread serves yet.

Lives in the worker. Gunicorn's main thread hands a connection over in `enqueue_req`, when it is new and
when a kept-alive one has something to say; one of the pool's threads takes it up in `handle`.
"""

from __future__ import annotations

import functools
from typing import Any


def count_waiting(worker: Any, waiting: memoryview[int]) -> None:
    """Keep the one word of `waiting` right from now on.

    Args:
        worker: Gunicorn's; one without a queue is left alone.
        waiting: its word on the scoreboard, see `counters` on how threads count.
    """
    if not hasattr(worker, "enqueue_req"):
        return
    enqueue_req, handle = worker.enqueue_req, worker.handle

    @functools.wraps(enqueue_req)
    def count_and_enqueue_req(conn: Any) -> None:
        waiting[0] += 1
        try:
            enqueue_req(conn)
        except BaseException:
            waiting[0] -= 1
            raise

    @functools.wraps(handle)
    def take_up_and_handle(conn: Any) -> Any:
        waiting[0] -= 1
        return handle(conn)

    worker.enqueue_req = count_and_enqueue_req
    worker.handle = take_up_and_handle
