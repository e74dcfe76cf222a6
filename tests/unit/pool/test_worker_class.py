"""Worker classes are told by their ancestors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from otel_canonical.pool.worker_class import is_gunicorn_asgi, worker_class_of

CFG = SimpleNamespace(threads=4, worker_connections=500)


def a_class(module: str) -> type:
    """Return a class of a site's that extends one of a module."""
    base = type("Worker", (), {"__module__": module})
    return type("Ours", (base,), {"__module__": "shop.workers"})


@pytest.mark.parametrize(
    ("module", "slots", "is_bounded", "has_queue", "has_thread", "main"),
    [
        ("gunicorn.workers.sync", 1, True, False, True, True),
        ("gunicorn.workers.gthread", 4, True, True, True, False),
        ("gunicorn.workers.ggevent", 500, False, False, False, True),
        ("gunicorn.workers.gasgi", 500, False, False, False, True),
        ("uvicorn_worker._workers", 500, False, False, False, True),
        ("somebody.s", 500, False, False, False, True),
    ],
)
def test_kind_is_that_of_an_ancestor(
    module: str, slots: int, is_bounded: bool, has_queue: bool, has_thread: bool, main: bool
) -> None:
    """What is not known may serve many at once, in its main thread."""
    cls = a_class(module)
    kind = worker_class_of(cls)
    assert kind.slots(CFG) == slots
    assert (kind.is_bounded, kind.has_queue) == (is_bounded, has_queue)
    assert (kind.has_thread_per_request, kind.serves_in_main_thread) == (has_thread, main)
    # Only a worker that serves nothing else meanwhile misses its heartbeat.
    assert kind.times_out is (module == "gunicorn.workers.sync")
    assert is_gunicorn_asgi(cls) is (module == "gunicorn.workers.gasgi")


def test_configuration_that_names_no_connections_has_gunicorns_default() -> None:
    """An older Gunicorn, or a class with a configuration of its own."""
    assert worker_class_of(a_class("x")).slots(SimpleNamespace()) == 1000


@pytest.mark.parametrize(
    ("module", "threads", "connections", "slots"),
    [
        ("gunicorn.workers.gthread", 1, 7, 1),
        ("gunicorn.workers.gthread", 0, 7, 1),
        ("gunicorn.workers.gthread", 2, 7, 2),
        ("gunicorn.workers.sync", 2, 7, 1),
        ("gunicorn.workers.ggevent", 2, 1, 1),
        ("gunicorn.workers.ggevent", 2, 0, 1),
    ],
)
def test_slots_are_at_least_one(module: str, threads: int, connections: int, slots: int) -> None:
    """Also where the configuration says 0."""
    cfg = SimpleNamespace(threads=threads, worker_connections=connections)
    assert worker_class_of(a_class(module)).slots(cfg) == slots
