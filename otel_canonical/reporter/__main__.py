"""The process that exports what belongs to the whole pool: its metrics, and lost requests.

The arbiter starts it as a fresh interpreter, never by a bare fork: it shares no lock and no connection
with another process. It imports nothing from the working directory. It reads one report a line from its
standard input: a sample of the pool, or a request that was lost with its worker, whose root span and log
event it makes under the ids of its line. When the input ends, because the arbiter ended or was killed, it exports
what it has and ends. It always exits with 0: Gunicorn reaps all its children and gives 3 and 4 a meaning.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from otel_canonical import otel_config
from otel_canonical._version import __version__
from otel_canonical.event import bounds
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.internal_errors import guarded
from otel_canonical.otel import logs, shutdown
from otel_canonical.otel.configurator import configure_sdk
from otel_canonical.otel.export_losses import ExportLosses
from otel_canonical.otel.root_attributes import sampling_attributes
from otel_canonical.otel.sampler import Rates, rates_of
from otel_canonical.pool.identity import identity_attributes
from otel_canonical.reporter import standard_error
from otel_canonical.reporter.pool_metrics import PoolMetrics
from otel_canonical.request.reports import (
    LEFT_TO_ARBITER,
    LostRequestReport,
    PoolReport,
    parse_report,
)
from otel_canonical.settings import read_settings
from otel_canonical.stacks.errors import report_with

if TYPE_CHECKING:
    from otel_canonical.otel.log_events import LogEvents

#: How long the last spans may take to leave after the arbiter has.
SHUTDOWN_S = 2.0


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
    """Makes a span and a log event of each lost request, as far as these are exported.

    Args:
        tracer: makes the root spans.
        ids: gives them their ids.
        log_events: emits log events; None if they are not exported.
        take_sample: takes samples of the pool.
        rates: the probabilities of the user's sampler.
    """

    def __init__(
        self,
        tracer: trace.Tracer,
        ids: GivenIds,
        log_events: LogEvents | None,
        take_sample: Callable[[PoolReport], None],
        rates: Rates,
    ) -> None:
        self._rates = rates
        self._tracer = tracer
        self._ids = ids
        self._log_events = log_events
        self._take_sample = take_sample

    def report(self, lines: Iterable[str]) -> None:
        """Report what the arbiter sends, one message a line."""
        for line in lines:
            with guarded("reporting to OpenTelemetry"):
                message = parse_report(line)
                if isinstance(message, PoolReport):
                    self._take_sample(message)
                else:
                    self._report_lost(message)

    def _report_lost(self, lost: LostRequestReport) -> None:
        self._ids.trace_id = int(lost.ids.trace_id, 16)
        self._ids.span_id = int(lost.ids.span_id, 16)
        if lost.ids.is_exported:
            span = self._make_span(lost)
        else:
            ids = SpanContext(self._ids.trace_id, self._ids.span_id, is_remote=False)
            span = NonRecordingSpan(ids)
        if self._log_events is not None:
            self._log_events.emit(lost.event, span)

    def _make_span(self, lost: LostRequestReport) -> trace.Span:
        parent = trace.INVALID_SPAN
        if lost.ids.parent_span_id:
            parent = NonRecordingSpan(
                SpanContext(
                    self._ids.trace_id,
                    int(lost.ids.parent_span_id, 16),
                    is_remote=True,
                    trace_flags=TraceFlags(TraceFlags.SAMPLED),
                )
            )
        attributes = lost.event.attributes()
        span = self._tracer.start_span(
            lost.span_name,
            context=trace.set_span_in_context(parent),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=lost.started_wall_ns,
        )
        rate = self._rates.with_caller if lost.ids.parent_span_id else self._rates.without_caller
        span.set_attributes(sampling_attributes(rate, lost.export_rule))
        span.set_attribute("error.type", attributes.get("canonical.lost_cause", "timeout"))
        span.set_status(StatusCode.ERROR)
        span.end(lost.ended_wall_ns)
        return span


def main() -> None:
    """Report until standard input ends, then shut down within `SHUTDOWN_S`.

    The one argument is the pool's name.
    """
    # The server's end ends us, through our input. The arbiter has started us with these blocked.
    for number in LEFT_TO_ARBITER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_ARBITER)
    standard_error.never_wait()
    # The arbiter has read the same settings, and said what is wrong with them.
    settings = read_settings(os.environ, lambda text: None)
    bounds.configure(settings)
    report_with(RedactionPolicy(settings.redacted_names))
    otel_config.set_defaults()
    ids, rates = GivenIds(), Rates(None, None)
    identity = identity_attributes(sys.argv[1], None, os.environ)
    configure_sdk(identity, id_generator=ids)
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        # The workers have asked the user's sampler. Not as an argument: a declarative configuration
        # takes none.
        rates = rates_of(provider.sampler)
        provider.sampler = ALWAYS_ON
        provider.id_generator = ids  # type: ignore[assignment]
    tracer = trace.get_tracer("otel_canonical", __version__)
    log_events = logs.log_events() if otel_config.exports("logs") else None
    pool_metrics = PoolMetrics(metrics.get_meter("otel_canonical", __version__))
    losses = ExportLosses()
    losses.watch()

    def take(report: PoolReport) -> None:
        pool_metrics.take(report)
        losses.count_unsent_of_dead(report.sample.export_lost, is_first=report.starts == 1)

    Reporter(tracer, ids, log_events, take, rates).report(sys.stdin)
    shutdown.shut_down(SHUTDOWN_S, losses)
    os._exit(0)


if __name__ == "__main__":
    main()
