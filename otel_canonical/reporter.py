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
import threading
from collections.abc import Iterable
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from otel_canonical import export_choice
from otel_canonical.distro import ReporterConfigurator
from otel_canonical.fence import Fence

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


def report(deaths: Iterable[str], tracer: trace.Tracer, ids: GivenIds) -> None:
    """Make a span of each death, given as one JSON object a line."""
    for line in deaths:
        with Fence("reporting a request that died"):
            _report_one(json.loads(line), tracer, ids)


def _report_one(death: dict[str, Any], tracer: trace.Tracer, ids: GivenIds) -> None:
    ids.trace_id = int(death["trace_id"], 16)
    ids.span_id = int(death["span_id"], 16)
    parent = trace.INVALID_SPAN
    if death["parent_span_id"]:
        parent = NonRecordingSpan(
            SpanContext(
                ids.trace_id,
                int(death["parent_span_id"], 16),
                is_remote=True,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )
        )
    span = tracer.start_span(
        death["name"],
        context=trace.set_span_in_context(parent),
        kind=SpanKind.SERVER,
        attributes=death["attributes"],
        start_time=death["started_wall_ns"],
    )
    span.set_status(StatusCode.ERROR)
    span.end(death["ended_wall_ns"])


def main() -> None:
    """Report until standard input ends, then leave within `FAREWELL_S`."""
    # What stops the server stops it through our input; a ^C in a terminal goes to all processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    export_choice.set_defaults()
    ids = GivenIds()
    ReporterConfigurator().configure(sampler=ALWAYS_ON, id_generator=ids)
    provider: Any = trace.get_tracer_provider()
    report(sys.stdin, provider.get_tracer("otel_canonical"), ids)
    farewell = threading.Thread(target=provider.shutdown, daemon=True)
    farewell.start()
    farewell.join(FAREWELL_S)
    os._exit(0)


if __name__ == "__main__":
    main()
