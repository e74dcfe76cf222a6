"""What it costs to close a request that holds absurd values: CPU milliseconds, `python -m benchmarks.large_values`.

Printed, not judged: the bound is 20 ms each. `tests/unit/request/test_bounded_work.py` counts what is looked at.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from otel_canonical.event.event import CanonicalEvent
from otel_canonical.event.line_writer import LineWriter
from otel_canonical.event.output import LineOutput
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.request.app_facts import set as set_fact
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.progress import Outputs
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings

BOUND_MS = 20.0
FRAMES = 100_000


def nothing(scope: RequestScope) -> None:
    """Do nothing: what an ordinary request costs."""


def long_message(scope: RequestScope) -> BaseException:
    """Fail with a message of 10 MB that quotes a form."""
    try:
        raise ValueError("password=hunter2&note=" + "a=b: c, " * 1_250_000)
    except ValueError as error:
        return error


def many_keys(scope: RequestScope) -> None:
    """Set 200 keys of 100 kB."""
    for n in range(200):
        set_fact(f"key{n}", "a=b: 'c', " * 10_000)


def long_header(scope: RequestScope) -> None:
    """Come from a page with an address of 1 MB, with a browser of 1 MB, on a host of 1 MB."""
    headers = {"REFERER": "http://a/" + "x1" * 500_000, "USER-AGENT": "y " * 500_000}
    scope.headers = {**headers, "HOST": "z" * 1_000_000}


def deep_recursion(scope: RequestScope) -> BaseException:
    """Fail 100,000 frames deep."""
    sys.setrecursionlimit(FRAMES + 1000)

    def fall(depth: int) -> None:
        if not depth:
            raise RecursionError("deep")
        fall(depth - 1)

    try:
        fall(FRAMES)
    except RecursionError as error:
        return error
    raise AssertionError


CASES: dict[str, Callable[[RequestScope], object]] = {
    "an ordinary request": nothing,
    "a message of 10 MB": long_message,
    "200 keys of 100 kB": many_keys,
    "headers of 1 MB": long_header,
    "100,000 frames": deep_recursion,
}


def closing_ms(prepare: Callable[[RequestScope], object]) -> float:
    """Return the CPU time that it takes to note an error and to close a request, attributes included."""
    writer = LineWriter(LineOutput(os.devnull), "logfmt", 4096)

    def export(event: CanonicalEvent, scope: RequestScope) -> None:
        event.attributes()

    outputs = Outputs(writer.encode, writer.write, export)
    best = float("inf")
    for _ in range(3):
        log = CanonicalLog(Settings(), RootFactory(None, str), outputs)
        scope = log.open("GET", "/", {})
        assert scope is not None
        # Held here: freeing a hundred thousand frames is no work of ours.
        error = prepare(scope)
        started = time.thread_time_ns()
        if isinstance(error, BaseException):
            scope.note_error(error)
        log.close(scope)
        best = min(best, time.thread_time_ns() - started)
    return best / 1e6


def main() -> None:
    """Print a table."""
    print(f"| closing a request with | CPU ms (bound: {BOUND_MS:g}) |\n|---|--:|")
    for name, prepare in CASES.items():
        print(f"| {name} | {closing_ms(prepare):.2f} |")


if __name__ == "__main__":
    main()
