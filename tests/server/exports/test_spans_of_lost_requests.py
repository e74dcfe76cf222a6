"""The root span of a request whose worker died is exported under the ids of its line."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.otlp_sink import OtlpSink, otlp_sink
from tests.support.processes import is_alive
from tests.support.raw_requests import request_id, send
from tests.support.servers import PATIENCE_S, Server, eventually, gunicorn
from tests.support.stuck_requests import line_after_shutdown

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def sink() -> Iterator[OtlpSink]:
    """A receiver of OTLP."""
    with otlp_sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def exporting_site(sink: OtlpSink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers that export to the sink."""
    directory = tmp_path_factory.mktemp("exporting")
    with gunicorn(
        "stuck",
        directory,
        *("-t", "2"),
        workers=2,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        OTEL_METRICS_EXPORTER="none",
        OTEL_BSP_SCHEDULE_DELAY="100",
    ) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "error_type"),
    [
        ("/sleeps/", "timeout"),
        ("/ignores-abort/", "timeout"),
        ("/c-call-holds-gil/", "timeout"),
        ("/segfaults/", "SIGSEGV"),
        ("/kills-itself/", "SIGKILL"),
        ("/exits-hard/", "exit:7"),
    ],
)
def test_root_span_has_ids_of_line(
    exporting_site: Server, sink: OtlpSink, path: str, error_type: str
) -> None:
    """One root SERVER span, failed, with the same facts as the line."""
    send(exporting_site, path)
    line = exporting_site.line_of(request_id(path))
    assert line["sampled"] == "true"
    root = sink.root_of(line)
    assert (root.trace_id, root.span_id) == (line["trace_id"], line["span_id"])
    assert root.name == f"GET {path[1:]}"
    assert root.kind.endswith("SERVER")
    assert root.status.endswith("ERROR")
    assert root.attributes["error.type"] == error_type
    assert root.attributes["canonical.event_type"] == line["event_type"]
    assert root.attributes["url.path"] == path
    for key in ("timeout_loc", "timeout_cause_loc", "lost_loc", "lost_cause"):
        assert root.attributes.get(f"canonical.{key}") == line.get(key)
    [event] = eventually(
        lambda: [
            log for log in list(sink.logs) if log.trace_id == root.trace_id and log.event_name
        ],
        lambda: f"no log event in {sink.logs}",
    )
    assert event.event_name == f"canonical.{line['event_type']}"
    assert (event.span_id, event.severity) == (root.span_id, "ERROR")
    assert event.attributes["url.path"] == path
    took_s = (root.ended_ns - root.started_ns) / 1e9
    assert abs(took_s - float(line["resp_time"])) < 0.01


def test_stack_is_on_root_span_when_request_timed_out(
    exporting_site: Server, sink: OtlpSink
) -> None:
    """The whole stack is on the span; the line has its two ends."""
    send(exporting_site, "/reads-socket/")
    root = sink.root_of(exporting_site.line_of("reads-socket"))
    assert re.search(r'stuck\.py", line \d+, in reads_socket', root.attributes["code.stacktrace"])


def test_root_span_continues_trace_of_caller(exporting_site: Server, sink: OtlpSink) -> None:
    """A dead request keeps its place in the caller's trace."""
    exporting_site.send(
        b"GET /exits-hard/ HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: called\r\n"
        b"traceparent: " + PARENT.encode() + b"\r\n\r\n"
    )
    line = exporting_site.line_of("called")
    root = sink.root_of(line)
    assert f"00-{root.trace_id}-{root.parent_id}-01" == PARENT


def test_open_spans_are_ended_when_worker_is_aborted(
    exporting_site: Server, sink: OtlpSink
) -> None:
    """What the request had begun leaves before the kill: failed, innermost first, under its root."""
    send(exporting_site, "/swallows-exit-in-spans/")
    line = exporting_site.line_of("swallows-exit-in-spans")
    assert line["event_type"] == "timeout"
    root = sink.root_of(line)
    [outer] = sink.children_of(root)
    [inner] = sink.children_of(outer)
    assert (outer.name, inner.name) == ("outer", "inner")
    assert (outer.status, inner.status) == (root.status, root.status)
    assert inner.ended_ns <= outer.ended_ns


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_arbiter_ends(
    number: signal.Signals, sink: OtlpSink, tmp_path: Path
) -> None:
    """The reporter leaves with the arbiter, however that ends, and so do the workers."""
    with gunicorn("stuck", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint) as site:
        send(site, "/exits-hard/")
        [reporter] = eventually(lambda: site.reporters(), site.report)
        left = [reporter, *site.workers()]
        os.kill(site.pid, number)
        site.process.wait(PATIENCE_S)
        eventually(
            lambda: not [pid for pid in left if is_alive(pid)],
            lambda: f"left behind: {[pid for pid in left if is_alive(pid)]}\n{site.report()}",
        )


def test_reporter_is_started_again_when_it_dies(sink: OtlpSink, tmp_path: Path) -> None:
    """Its death costs nothing: the next dead request is reported by a new one."""
    with gunicorn("stuck", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint) as site:
        send(site, "/exits-hard/")
        [reporter] = eventually(lambda: site.reporters(), site.report)
        os.kill(reporter, signal.SIGKILL)
        eventually(lambda: not is_alive(reporter), site.report)
        send(site, "/kills-itself/")
        line = site.line_of("kills-itself")
        assert sink.root_of(line).attributes["error.type"] == "SIGKILL"
        assert reporter not in site.reporters()


def test_lost_line_and_span_when_shutdown_runs_out(sink: OtlpSink, tmp_path: Path) -> None:
    """The last requests are reported while the server is already leaving."""
    with gunicorn(
        "stuck", tmp_path, "--graceful-timeout", "1", OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint
    ) as site:
        line = line_after_shutdown(site)
        assert line["lost_cause"] == "shutdown"
        assert sink.root_of(line).attributes["error.type"] == "shutdown"
