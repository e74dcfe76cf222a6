"""Sampled traces and wide events at their limits, through the Collector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.otlp_sink import SunkSpan
from tests.support.peers.collector import Collector, shipped_collector
from tests.support.servers import Server, eventually, gunicorn

REQUESTS = 2000
RATIO = 0.01
#: Expected, and how far chance may be from it: beyond that in one run of a thousand.
SAMPLED, CHANCE = 20, 15
CLIENTS = 4
CALLER = "00f067aa0ba902b7"


@dataclass
class Site:
    """A server, and the Collector that it exports to."""

    server: Server
    peer: Collector

    def ask(self, path: str, request_id: str, **headers: str) -> None:
        """Send one request; its line is looked at later."""
        assert self.server.get(path, X_Request_ID=request_id, **headers).status == 200

    def trace(self, trace_id: str) -> list[SunkSpan]:
        """Return the spans of a trace that have come out of the Collector."""
        return [span for span in list(self.peer.received.spans) if span.trace_id == trace_id]

    def whole_trace(self, trace_id: str) -> list[SunkSpan]:
        """Return the spans of a request for `/queries/`, once its root and all five queries are there."""

        def probe() -> bool:
            kinds = Counter(span.kind for span in self.trace(trace_id))
            return (kinds["SERVER"], kinds["CLIENT"]) == (1, 5)

        eventually(probe, lambda: f"{self.trace(trace_id)}\n{self.peer.said()}")
        return self.trace(trace_id)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Two workers that export one trace in a hundred, or what their caller wants."""
    with (
        shipped_collector(tmp_path) as peer,
        gunicorn(
            "every_kind",
            tmp_path,
            workers=2,
            SITE_DIRECTORY=str(tmp_path),
            OTEL_EXPORTER_OTLP_ENDPOINT=peer.endpoint,
            OTEL_METRICS_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            OTEL_TRACES_SAMPLER="parentbased_traceidratio",
            OTEL_TRACES_SAMPLER_ARG=str(RATIO),
            OTEL_BSP_SCHEDULE_DELAY="50",
        ) as server,
    ):
        yield Site(server, peer)


def test_one_trace_in_a_hundred_and_every_line(site: Site) -> None:
    """All lines; exported is what says `sampled=true`, each trace with its root and all queries."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(lambda n: site.ask("/queries/", f"s-{n}"), range(REQUESTS)))
    lines = site.server.wait_for_lines(REQUESTS)
    assert {line["db_queries"] for line in lines} == {"5"}
    sampled = {line["trace_id"]: line for line in lines if line["sampled"] == "true"}
    print(f"{len(lines)} lines, {len(sampled)} of them sampled")
    assert abs(len(sampled) - SAMPLED) <= CHANCE
    for trace_id, line in sampled.items():
        spans = site.whole_trace(trace_id)
        assert [span.span_id for span in spans if span.kind == "SERVER"] == [line["span_id"]]
        assert {span.parent_id for span in spans if span.kind == "CLIENT"} == {line["span_id"]}
    assert {span.trace_id for span in site.peer.received.spans} == set(sampled)


def test_caller_is_obeyed(site: Site) -> None:
    """A trace that the caller samples is exported, one that it doesn't is not; both have lines."""
    wanted, unwanted = [f"{n:032x}" for n in range(1, 21)], [f"{n:032x}" for n in range(21, 41)]
    for flags, traces in (("00", unwanted), ("01", wanted)):
        for trace_id in traces:
            traceparent = f"00-{trace_id}-{CALLER}-{flags}"
            site.ask("/queries/", f"c-{trace_id}", traceparent=traceparent)
    lines = site.server.wait_for_lines(len(wanted) + len(unwanted))
    assert {line["trace_id"]: line["sampled"] for line in lines} == {
        **dict.fromkeys(wanted, "true"),
        **dict.fromkeys(unwanted, "false"),
    }
    for trace_id in wanted:
        spans = site.whole_trace(trace_id)
        assert [span.parent_id for span in spans if span.kind == "SERVER"] == [CALLER]
    assert {span.trace_id for span in site.peer.received.spans} == set(wanted)


def test_our_fields_survive_three_hundred_of_the_apps(site: Site) -> None:
    """An event that the app has filled keeps `http.route` and whatever else is ours."""
    trace_id = f"{1:032x}"
    site.ask("/many-facts/", "many", traceparent=f"00-{trace_id}-{CALLER}-01")
    [root] = eventually(lambda: site.trace(trace_id), site.peer.said)
    assert len([name for name in root.attributes if name.startswith("app.")]) == 300
    assert root.dropped_attributes == 0
    assert root.attributes["http.route"] == "many-facts/"
    assert root.attributes["http.response.status_code"] == 200
    assert {"canonical.event_type", "canonical.duration", "process.pid"} <= set(root.attributes)
