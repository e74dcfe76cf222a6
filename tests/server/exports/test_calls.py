"""Queries and outgoing calls: counted once whatever is exported, and below the root where it is."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.neighbour import Neighbour
from tests.support.servers import Line, Server
from tests.support.traced_site import Traced


def test_queries_are_children_when_driver_is_instrumented(either: Traced) -> None:
    """Each query has a CLIENT span under the root, or under the app's own span."""
    line, root = either.ask("/own-spans/")
    [own] = either.sink.children_of(root)
    assert (own.name, own.scope) == ("pricing", "app")
    [query] = either.sink.children_of(own)
    assert (query.kind, query.trace_id) == ("CLIENT", root.trace_id)
    assert line["db_queries"] == "1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/queries/", {"db_queries": "5", "db_dup_queries": "2"}),
        ("/failing-query/", {"db_queries": "1", "db_dup_queries": "0", "db_errors": "1"}),
        ("/stream/", {"db_queries": "3", "db_dup_queries": "3"}),
        ("/raw-sqlite/", {"db_queries": "1", "db_dup_queries": "0"}),
    ],
)
def test_queries_are_counted_once_whatever_is_exported(
    whatever_is_exported: Server, path: str, expected: Line
) -> None:
    """Django's queries by Django, others by their spans, none by both, exported or not."""
    _, line = whatever_is_exported.ask(path)
    counts = ("db_queries", "db_dup_queries", "db_errors")
    assert {key: line[key] for key in counts if key in line} == expected


def test_calls_are_counted_whatever_is_exported(
    whatever_is_exported: Server, neighbour: Neighbour
) -> None:
    """Outgoing HTTP is counted with its failures, through any instrumented client."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # taken, and nobody listens
        nobody = f"http://127.0.0.1:{silent.getsockname()[1]}"
        answer, line = whatever_is_exported.ask(
            f"/outgoing/?url={neighbour.url}/&url={neighbour.url}/broken&url={nobody}/"
        )
    assert json.loads(answer.body) == {"survived": 3}  # urllib raises on 503, requests doesn't
    assert {key: line.get(key) for key in ("http_calls", "http_errors", "db_queries")} == {
        "http_calls": "6",
        "http_errors": "4",
        "db_queries": None,
    }
    assert 0 < float(line["http_time"]) <= float(line["resp_time"]), line


def test_calls_carry_trace_whatever_is_sampled(
    traced: Traced, unsampled: Traced, neighbour: Neighbour
) -> None:
    """The called service sees the line's trace, and whether the trace is exported."""
    for served, is_sampled in ((traced, 1), (unsampled, 0)):
        neighbour.callers.clear()
        _, line = served.server.ask(f"/outgoing/?url={neighbour.url}/")
        assert len(neighbour.callers) == 2
        for caller in neighbour.callers:
            assert caller is not None
            _, trace_id, span_id, flags = caller.split("-")
            assert (trace_id, int(flags, 16) & 1) == (line["trace_id"], is_sampled)
            assert span_id != line["span_id"]


def test_calls_carry_callers_trace_or_none_when_nothing_is_exported(
    site: Server, neighbour: Neighbour
) -> None:
    """A site without an exporter passes the caller's trace on as it came, and begins none.

    "Not sampled" would switch the tracing of the called service off.
    """
    neighbour.callers.clear()
    _, line = site.ask(f"/outgoing/?url={neighbour.url}/")
    assert line["http_calls"] == "2"
    assert neighbour.callers == [None, None]
    neighbour.callers.clear()
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    _, line = site.ask(f"/outgoing/?url={neighbour.url}/", traceparent=caller)
    assert line["trace_id"] == caller.split("-")[1]
    assert neighbour.callers == [caller, caller]
