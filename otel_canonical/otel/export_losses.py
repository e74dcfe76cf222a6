"""Counts the spans, log records and metric reports that could not be exported, and reports them.

Lives in the worker and in the reporter. While a collector is down the SDK logs several messages a
second. These are replaced by one report a minute, with the SDK's last message as the reason, and one
when the process ends. Set the level of the logger `opentelemetry` to DEBUG to see the SDK's own messages.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, MutableSequence, Sequence

from opentelemetry import metrics, trace

from otel_canonical import otel_config
from otel_canonical.event.redaction import REDACTED
from otel_canonical.internal_errors import guarded, tell
from otel_canonical.otel.exporter_internals import exporter_of, refuse_redirects
from otel_canonical.otel.sdk_internals import (
    SDK_LOGGERS,
    BatchQueue,
    log_processors,
    span_processors,
)
from otel_canonical.patching import patch

#: The shortest time between two reports.
INTERVAL_S = 60.0

SPANS, LOG_RECORDS, METRIC_REPORTS = "spans", "log records", "reports of metrics"

#: How the names of the exporters' own loggers begin.
EXPORTERS = "opentelemetry.exporter."


class ExportLosses:
    """Counts and reports what the exporters of this process fail to send.

    Args:
        queued: two words that always say how many spans, and how many log records, are not exported
            yet. A worker's are on the scoreboard: if it is killed, the arbiter counts these as lost.
    """

    def __init__(self, queued: MutableSequence[int] | memoryview[int] | None = None) -> None:
        self._queued = [0, 0] if queued is None else queued
        # A process that the app forks has an empty queue of its own.
        os.register_at_fork(after_in_child=self._forget_queued)
        #: What was counted of dead workers, by signal; None until the first sample (reporter).
        self._counted: Mapping[str, int] | None = None
        # Guards the counts; nothing else is called while it is held. Reentrant, because a signal
        # handler may interrupt the thread that holds it and count as well.
        self._lock = threading.RLock()
        self._unsaid: dict[str, int] = {}
        self._reason = ""
        self._last_said_monotonic = float("-inf")
        self._is_over = False
        self._held: list[Callable[[], tuple[str, int]]] = []
        self._counter: metrics.Counter | None = None

    def watch(self) -> None:
        """Watch the exporters of the global providers."""
        self._counter = metrics.get_meter("otel_canonical").create_counter(
            "canonical.export.lost",
            unit="{item}",
            description="Spans and log records that could not be exported",
        )
        for processor in span_processors(trace.get_tracer_provider()):
            with guarded("watching an exporter of spans"):
                self._watch(processor, SPANS)
        for log_processor in log_processors():
            with guarded("watching an exporter of log records"):
                self._watch(log_processor, LOG_RECORDS)
        names = [name for name in logging.root.manager.loggerDict if name.startswith(EXPORTERS)]
        for name in (*names, *SDK_LOGGERS):
            logging.getLogger(name).addFilter(self._take_reason)

    def add(self, what: str, count: int) -> None:
        """Count what is lost; report it if the last report is long enough ago."""
        with self._lock:
            if self._is_over:
                return
            self._unsaid[what] = self._unsaid.get(what, 0) + count
            is_time = time.monotonic() - self._last_said_monotonic >= INTERVAL_S
        if self._counter is not None and what != METRIC_REPORTS:
            self._counter.add(count, {"otel.signal": "traces" if what == SPANS else "logs"})
        if is_time:
            self._say("")

    def count_unsent_of_dead(self, totals: Mapping[str, int], *, is_first: bool) -> None:
        """Count what workers that died had not exported (reporter); the arbiter reports it.

        Args:
            totals: since the arbiter began, by `otel.signal`.
            is_first: whether no earlier reporter has counted any of it.
        """
        if self._counted is None:
            self._counted = {} if is_first else totals
        for signal, total in totals.items():
            if self._counter is not None and total > self._counted.get(signal, 0):
                self._counter.add(total - self._counted.get(signal, 0), {"otel.signal": signal})
        self._counted = totals

    def _forget_queued(self) -> None:
        self._queued = [0, 0]

    def _drop(self, what: str, count: int) -> None:
        self._queued[0 if what == SPANS else 1] -= count
        self.add(what, count)

    def conclude(self) -> None:
        """Report the rest. Records that still wait count as lost: the process is about to end."""
        for held in self._held:
            with guarded("counting what is left to export"):
                what, count = held()
                if count:
                    with self._lock:
                        self._unsaid[what] = self._unsaid.get(what, 0) + count
        self._say(" before this process left")
        self._is_over = True
        # Reported: the arbiter must not count it again.
        self._queued[0] = self._queued[1] = 0

    def _say(self, when: str) -> None:
        with self._lock:
            unsaid, self._unsaid = self._unsaid, {}
            if not unsaid:
                return
            self._last_said_monotonic = time.monotonic()
        lost = " and ".join(f"{count} {what}" for what, count in sorted(unsaid.items()))
        reason = f": {self._reason}" if self._reason else ""
        tell(f"{lost} could not be sent to the collector{when}; no line is affected{reason}")

    def _take_reason(self, record: logging.LogRecord) -> bool:
        """Suppress a warning of the SDK's and keep it as the reason of our report; let others pass."""
        if record.levelno < logging.WARNING or _shows_all():
            return True
        self._reason = _without_header_values(record.getMessage().rstrip("."))
        if record.exc_info and record.exc_info[1] is not None:
            self._reason += _without_header_values(f" {record.exc_info[1]!r}")
        if "metric" in record.name and record.levelno >= logging.ERROR:
            self.add(METRIC_REPORTS, 1)
        return False

    def _watch(self, processor: object, what: str) -> None:
        exporter = exporter_of(processor)
        if exporter is None:
            return
        refuse_redirects(exporter)  # also of exporters that a configuration file names
        queue = BatchQueue(processor)
        queue.on_drop(lambda count: self._drop(what, count))
        sending = [0]
        number = 0 if what == SPANS else 1

        def queueing(emit: Callable[..., object]) -> Callable[..., object]:
            def count_and_emit(item: object) -> object:
                # No call between reading and writing: threads of the worker count in the same word.
                self._queued[number] += 1
                return emit(item)

            return count_and_emit

        has_queue = queue.on_enqueue(queueing)

        def counting(export: Callable[..., object]) -> Callable[..., object]:
            def export_and_count(
                items: Sequence[object], *args: object, **kwargs: object
            ) -> object:
                sending[0] = count = len(items)
                if not has_queue:
                    self._queued[number] += count
                has_failed = True
                try:
                    result = export(items, *args, **kwargs)
                    has_failed = getattr(result, "name", "") == "FAILURE"
                    return result
                finally:
                    sending[0] = 0
                    self._queued[number] -= count
                    if has_failed:
                        self.add(what, count)

            return export_and_count

        patch(exporter, "export", counting)
        self._held.append(lambda: (what, sending[0] + len(queue)))


def _shows_all() -> bool:
    return 0 < logging.getLogger("opentelemetry").level <= logging.DEBUG


def _without_header_values(reason: str) -> str:
    """Return a reason without the values of `OTEL_EXPORTER_OTLP_*HEADERS`; what is said is redacted later."""
    for value in otel_config.header_values():
        reason = reason.replace(value, REDACTED)
    return reason
