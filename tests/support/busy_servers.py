"""Servers that stay busy while a test does something to them, and the account afterwards.

Answered requests are lines, the quiet pool is counted right, the arbiter holds as many descriptors as
before, no traceback of ours was printed and no process is left.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.load import Load, said_by, under_load
from tests.support.otlp_sink import OtlpSink
from tests.support.processes import descriptors_of, processes_of
from tests.support.servers import (
    GUNICORN_VERSION,
    Line,
    Server,
    eventually,
    gunicorn,
)
from tests.support.soak import some_of

LOADED_CLASSES = {
    "sync": ("-k", "sync"),
    "gthread": ("-k", "gthread", "--threads", "3"),
    "gevent": ("-k", "gevent", "--worker-connections", "50"),
}

THREADS = {"sync": 1, "gthread": 3, "gevent": None}
WORKERS = 2


def in_classes(*short: str) -> pytest.MarkDecorator:
    """Return the mark of a test that runs with some worker classes; `make soak` runs it with each."""
    return pytest.mark.parametrize("worker_class", some_of(LOADED_CLASSES, *short))


in_sync = in_classes("sync")
in_threads = in_classes("gthread")
in_greenlets = in_classes("gevent")


def exporting_to(sink: OtlpSink) -> dict[str, str]:
    """Return the variables with which a server exports to `sink`."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_PYTHON_CANONICAL_FLUSH_SECONDS": "10",  # this machine may be busy
    }


@contextlib.contextmanager
def started(
    worker_class: str, directory: Path, *arguments: str, **environment: str
) -> Iterator[Server]:
    """Start a server; when left check that it left nothing behind and printed no traceback."""
    arguments = (*LOADED_CLASSES[worker_class], *arguments)
    with gunicorn("stuck", directory, *arguments, workers=WORKERS, **environment) as server:
        if GUNICORN_VERSION >= (25, 1):
            server.wait_for("Control socket listening")  # the last that an arbiter opens
        yield server
    assert_nothing_is_left(server, directory)


@contextlib.contextmanager
def busy(
    worker_class: str, directory: Path, *arguments: str, **environment: str
) -> Iterator[tuple[Server, Load]]:
    """Start a server as `started` does and keep it busy."""
    with (
        started(worker_class, directory, *arguments, **environment) as server,
        under_load(server) as load,
    ):
        yield server, load


def assert_nothing_is_left(server: Server, directory: Path) -> None:
    """Fail if a process of the server's is left, or a traceback of ours among what it has printed."""
    eventually(
        lambda: not processes_of(directory),
        lambda: f"still there: {processes_of(directory)}\n{said_by(server)}",
    )
    report = server.report()
    # Gunicorn's control socket has some of its own, when it is closed around a client.
    tracebacks = re.findall(r"(?s)Traceback.*?(?=\n\[|\nts=|\Z)", report)
    assert not [text for text in tracebacks if "otel_canonical/" in text]
    assert "it is lost" not in report  # what a leaving worker says of telemetry it could not export


def assert_pool_is_counted(server: Server, worker_class: str, workers: int = WORKERS) -> Line:
    """Ask the quiet server; fail unless it sees itself as it is: `workers`, one of them busy."""
    threads = THREADS[worker_class]
    expected = {
        "g_w_count": str(workers),
        "g_w_active": "1",
        "g_t_active": "1",
        "g_t_count": None if threads is None else str(workers * threads),
    }
    seen: list[Line] = []

    def is_right() -> bool:
        # Again and again: workers that were told to leave may take their time.
        _, line = server.ask("/ok/")
        seen.append(line)
        return {key: line.get(key) for key in expected} == expected

    eventually(is_right, lambda: f"{seen[-1]} instead of {expected}\n{said_by(server)}")
    return seen[-1]


def gather_lines(load: Load, whole: Path, files: Callable[[], Iterable[Path]]) -> None:
    """Have the lines read from `whole`: what stands in all files, once each answer has its line there."""
    load.server.stdout = whole

    def is_whole() -> bool:
        whole.write_bytes(b"".join(file.read_bytes() for file in files()))
        return load.answered <= {line["req_id"] for line in load.lines()}

    eventually(is_whole, lambda: said_by(load.server))


def assert_books_balance(load: Load, worker_class: str, workers: int = WORKERS) -> Line:
    """Stop the load; fail unless each good answer is a line, and the quiet pool is counted right."""
    load.stop()
    assert load.account().keys() == {"request"}
    return assert_pool_is_counted(load.server, worker_class, workers)


def assert_descriptors_are(server: Server, before: Counter[str]) -> None:
    """Fail unless the arbiter comes to hold what it held before."""
    eventually(
        lambda: descriptors_of(server.pid) == before,
        lambda: f"before {before}\nafter {descriptors_of(server.pid)}",
    )


def assert_each_line_has_its_root(load: Load, sink: OtlpSink) -> None:
    """Fail unless each line's trace has arrived with exactly one root."""
    wanted = {line["trace_id"] for line in load.lines()}

    def roots() -> list[str]:
        return [span.trace_id for span in list(sink.spans) if span.kind == "SERVER"]

    eventually(
        lambda: wanted <= set(roots()),
        lambda: f"{len(wanted - set(roots()))} of {len(wanted)} roots missing",
    )
    found = [trace_id for trace_id in roots() if trace_id in wanted]
    assert len(found) == len(wanted)
