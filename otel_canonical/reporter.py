"""The process that exports what is left of a dead request: its root span, under the ids of its line.

Started by the arbiter as a fresh interpreter (`python -m otel_canonical.reporter`), never forked from
it: it shares no lock and no connection with anybody. It reads one JSON object a line from its standard
input; when that ends, because the arbiter has ended or has been killed, it exports what it has and
leaves. It always leaves with 0: Gunicorn reaps all its children and takes meaning from 3 and 4.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import get_logger
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from otel_canonical import export_choice, sdk_farewell
from otel_canonical.distro import ReporterConfigurator
from otel_canonical.event import CanonicalEvent, EventType
from otel_canonical.fence import Fence
from otel_canonical.log_events import LogEvents

#: How long the last spans may take to leave after the arbiter has.
FAREWELL_S = 2.0


class GivenIds(IdGenerator):
    """Hands out the ids that a dead request already has."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0

    def generate_trace_id(self) -> int:
        """Return the given trace id."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Return the given span id."""
        return self.span_id


class Reporter:
    """Makes a span and a log event of each death, as far as these are exported."""

    def __init__(self, tracer: trace.Tracer, ids: GivenIds, log_events: LogEvents | None) -> None:
        self._tracer = tracer
        self._ids = ids
        self._log_events = log_events

    def report(self, deaths: Iterable[str]) -> None:
        """Report deaths, each one JSON object on a line."""
        for line in deaths:
            with Fence("reporting a request that died"):
                self._report_one(json.loads(line))

    def _report_one(self, death: dict[str, Any]) -> None:
        event = CanonicalEvent.of_pairs(
            EventType(death["event_type"]),
            [(key, value) for key, value in death["pairs"]],
            death["stack"],
        )
        self._ids.trace_id = int(death["trace_id"], 16)
        self._ids.span_id = int(death["span_id"], 16)
        if death["is_exported"]:
            span = self._make_span(death, event)
        else:
            ids = SpanContext(self._ids.trace_id, self._ids.span_id, is_remote=False)
            span = NonRecordingSpan(ids)
        if self._log_events is not None:
            self._log_events.emit(event, span)

    def _make_span(self, death: dict[str, Any], event: CanonicalEvent) -> trace.Span:
        parent = trace.INVALID_SPAN
        if death["parent_span_id"]:
            parent = NonRecordingSpan(
                SpanContext(
                    self._ids.trace_id,
                    int(death["parent_span_id"], 16),
                    is_remote=True,
                    trace_flags=TraceFlags(TraceFlags.SAMPLED),
                )
            )
        attributes = event.attributes()
        span = self._tracer.start_span(
            death["name"],
            context=trace.set_span_in_context(parent),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=death["started_wall_ns"],
        )
        span.set_attribute("error.type", attributes.get("canonical.lost_cause", "timeout"))
        span.set_status(StatusCode.ERROR)
        span.end(death["ended_wall_ns"])
        return span


def main() -> None:
    """Report until standard input ends, then leave within `FAREWELL_S`."""
    # What stops the server stops it through our input; a ^C in a terminal goes to all processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    export_choice.set_defaults()
    ids = GivenIds()
    ReporterConfigurator().configure(sampler=ALWAYS_ON, id_generator=ids)
    tracer = trace.get_tracer("otel_canonical")
    log_events = LogEvents(get_logger("otel_canonical")) if export_choice.exports("logs") else None
    Reporter(tracer, ids, log_events).report(sys.stdin)
    sdk_farewell.leave(FAREWELL_S)
    os._exit(0)


if __name__ == "__main__":
    main()
