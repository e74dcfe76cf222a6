"""Outgoing calls of each library, with the real library: what its line counts, and the table in the docs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.callees import running_grpc, running_http, running_redis
from tests.support.servers import Server, gunicorn

DOCUMENT = Path(__file__).parents[3] / "docs" / "CALLS.md"

#: By the path of `programs/calls.py`: what a line counts. What Celery sends goes through a broker.
COUNTED = {
    "requests": {"http": 1},
    "urllib": {"http": 1},
    "urllib3": {"http": 1},
    "httpx": {"http": 1},
    "httpx_async": {"http": 1},
    "aiohttp": {"http": 1},
    "redis": {"redis": 3},
    "redis_cluster": {"redis": 2},
    "celery": {"celery": 1, "redis": 1},
    "confluent_kafka": {"kafka": 1},
    "elasticsearch": {"elasticsearch": 1},
    "boto3": {"aws_api": 1},
    "grpc": {"grpc": 1},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """An application that exports nothing, and the addresses that it calls."""
    directory = tmp_path_factory.mktemp("calls")
    with ExitStack() as stack:
        http = stack.enter_context(running_http())
        addresses = {
            "http": f"{http}/",
            "elasticsearch": http,
            "s3": http,
            "grpc": stack.enter_context(running_grpc()),
            "redis": stack.enter_context(running_redis(directory)),
            "cluster": stack.enter_context(
                running_redis(tmp_path_factory.mktemp("cluster"), is_cluster=True)
            ),
        }
        everything = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ""}
        server = stack.enter_context(gunicorn("calls", directory, "--timeout", "60", **everything))
        yield server, urlencode(addresses)


@pytest.mark.parametrize("library", list(COUNTED))
def test_calls_of_a_library_are_counted(library: str, site: tuple[Server, str]) -> None:
    """Each call once, under the name of what was called; nothing else."""
    server, addresses = site
    server.get(f"/{library}/?{addresses}")  # what is asked once only
    answer, line = server.ask(f"/{library}/?{addresses}")
    assert (answer.status, line["app_done"]) == (200, library)
    counted = {key.removesuffix("_calls"): int(line[key]) for key in line if key.endswith("_calls")}
    assert counted == COUNTED[library]
    for system in counted:
        assert 0 < float(line[f"{system}_time"]) <= float(line["resp_time"])
        assert f"{system}_errors" not in line


def test_document_lists_the_libraries_that_were_run() -> None:
    """A row for each, with the keys that it has on a line."""
    rows = re.findall(r"(?m)^\| `(\w+)` \|.*\| (`.*) \|$", DOCUMENT.read_text())
    listed = {library: set(re.findall(r"`(\w+)_calls`", keys)) for library, keys in rows}
    assert listed == {library: set(counts) for library, counts in COUNTED.items()}
