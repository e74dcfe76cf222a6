"""Adapter for the queue of a threaded worker: requests it has accepted and no thread serves yet.

Lives in the worker. Gunicorn's main thread queues a connection in `enqueue_req`, when it is new and when
a kept-alive one sends another request; one of the pool's threads takes it from there in `handle`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_canonical.patching import patch
from otel_canonical.process.identity import own


def count_waiting(worker: Any, waiting: memoryview[int]) -> None:
    """Count in `waiting[0]` the requests that wait for a thread.

    Args:
        worker: Gunicorn's; one without a queue is left alone.
        waiting: its word on the scoreboard, see `counters` on how threads count.
    """

    def counting_up(enqueue_req: Callable[[Any], None]) -> Callable[[Any], None]:
        def count_and_enqueue_req(conn: Any) -> None:
            waiting[0] += 1
            try:
                enqueue_req(conn)
            except BaseException:
                waiting[0] -= 1
                raise

        return count_and_enqueue_req

    def counting_down(handle: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def take_up_and_handle(conn: Any) -> Any:
            if own[0]:  # a fork of the worker has its queue, too
                waiting[0] -= 1
            return handle(conn)

        return take_up_and_handle

    if patch(worker, "enqueue_req", counting_up, is_optional=True):
        patch(worker, "handle", counting_down)
