"""Many requests at once, each of which does another amount of work: every number is its own."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.neighbour import Neighbour
from tests.support.servers import Line, gunicorn
from tests.support.soak import IS_SOAK, some_of
from tests.support.worker_classes import ASGI, CLASSES

REQUESTS = (60, 200)[IS_SOAK]
MOST = {
    "queries": 6,
    "renders": 4,
    "hits": 3,
    "misses": 3,
    "calls": 2,
    "timers": 3,
    "commits": 2,
    "threads": 2,
    "streamed": 3,
}

pytestmark = pytest.mark.soak


def expected(work: dict[str, int]) -> dict[str, str | None]:
    """Return what the line of a request says of its work; `None` for a key that it lacks."""
    queries = work["queries"] + work["commits"] + work["threads"] + work["streamed"]
    counts = {
        "db_queries": queries,
        "tpl_renders": work["renders"],
        "cache_hits": work["hits"],
        "cache_misses": work["misses"],
        "http_calls": work["calls"],
        "app_step_count": work["timers"] if work["timers"] > 1 else 0,
    }
    return {key: str(count) if count else None for key, count in counts.items()}


def said(line: Line, keys: dict[str, str | None]) -> dict[str, str | None]:
    """Return what a line says of the same; a count of 0 is as good as none."""
    return {key: None if line.get(key) == "0" else line.get(key) for key in keys}


@pytest.mark.parametrize("worker_class", some_of(["sync", *CLASSES], "gthread", "gevent", "asgi"))
def test_each_number_is_the_requests_own(
    worker_class: str, neighbour: Neighbour, tmp_path: Path
) -> None:
    """Queries, renders, look-ups, calls, timers, `on_commit`, copied contexts, streamed bodies."""
    arguments = CLASSES.get(worker_class, ["-k", "sync"])
    if worker_class == "gthread":
        arguments = ["-k", "gthread", "--threads", "40"]
    work = [{name: random.randint(0, most) for name, most in MOST.items()} for _ in range(REQUESTS)]
    paths = ["work", "sync"] if worker_class in ASGI else ["work"]
    environment = {
        "SITE_DIRECTORY": str(tmp_path),
        "IS_ASGI": str(int(worker_class in ASGI)),
        "NEIGHBOUR": f"{neighbour.url}/",
        "OTEL_PYTHON_CANONICAL_SLOW_SECONDS": "0",
    }

    def ask(number: int) -> int:
        query = "&".join(f"{name}={count}" for name, count in work[number].items())
        path = f"/{paths[number % len(paths)]}/?{query}"
        return site.get(path, X_Request_ID=f"tag-{number}").status

    with (
        gunicorn("tagged", tmp_path, *arguments, "--timeout", "100", **environment) as site,
        ThreadPoolExecutor(REQUESTS) as clients,
    ):
        assert set(clients.map(ask, range(REQUESTS))) == {200}, site.report()
        lines = {line["req_id"]: line for line in site.wait_for_lines(REQUESTS)}
    wrong = []
    for number, one in enumerate(work):
        wanted = expected(one)
        if said(lines[f"tag-{number}"], wanted) != wanted:
            wrong.append((one, said(lines[f"tag-{number}"], wanted)))
    assert not wrong, wrong[:3]
