"""What could not be sent: counted by signal, and said once a minute and at the end.

Lives in the worker and in the reporter. The SDK tells nobody but its log, several times a second while
a collector is down. What it says there becomes the reason in ours; set the level of the logger
`opentelemetry` to DEBUG to see all of it.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import _logs, metrics, trace

from otel_canonical.internal_errors import guarded, tell
from otel_canonical.patching import patch

#: How long after one complaint the next may follow.
INTERVAL_S = 60.0

SPANS, LOG_RECORDS, METRIC_REPORTS = "spans", "log records", "reports of metrics"

#: Loggers of the SDK that complain about a collector, beside those of the exporters.
SDK_LOGGERS = (
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.metrics._internal.export",
    "opentelemetry.sdk._logs._internal.export",
    "opentelemetry.sdk.trace.export",
)
EXPORTERS = "opentelemetry.exporter."


class ExportLosses:
    """Counts what the exporters of this process fail to send."""

    def __init__(self) -> None:
        # Guards the counts, for a moment and around nothing else; a signal handler that interrupts
        # its holder may come in again.
        self._lock = threading.RLock()
        self._unsaid: dict[str, int] = {}
        self._reason = ""
        self._last_said_monotonic = float("-inf")
        self._is_over = False
        self._held: list[Callable[[], tuple[str, int]]] = []
        self._counter: metrics.Counter | None = None

    def watch(self) -> None:
        """Watch the exporters of the providers that are in force."""
        self._counter = metrics.get_meter("otel_canonical").create_counter(
            "canonical.export.lost",
            unit="{item}",
            description="Spans and log records that could not be exported",
        )
        for processor in _processors(trace.get_tracer_provider(), "_active_span_processor"):
            with guarded("watching an exporter of spans"):
                self._watch(processor, SPANS)
        for processor in _processors(_logs.get_logger_provider(), "_multi_log_record_processor"):
            with guarded("watching an exporter of log records"):
                self._watch(processor, LOG_RECORDS)
        names = [name for name in logging.root.manager.loggerDict if name.startswith(EXPORTERS)]
        for name in (*names, *SDK_LOGGERS):
            logging.getLogger(name).addFilter(self._heed)

    def add(self, what: str, count: int) -> None:
        """Count what is lost, and say so if it is time to."""
        with self._lock:
            if self._is_over:
                return
            self._unsaid[what] = self._unsaid.get(what, 0) + count
            is_time = time.monotonic() - self._last_said_monotonic >= INTERVAL_S
        if self._counter is not None and what != METRIC_REPORTS:
            self._counter.add(count, {"otel.signal": "traces" if what == SPANS else "logs"})
        if is_time:
            self._say("")

    def conclude(self) -> None:
        """Say what hasn't been said; what is still held counts as lost, for the process is leaving."""
        for held in self._held:
            with guarded("counting what is left to export"):
                what, count = held()
                if count:
                    with self._lock:
                        self._unsaid[what] = self._unsaid.get(what, 0) + count
        self._say(" before this process left")
        self._is_over = True

    def _say(self, when: str) -> None:
        with self._lock:
            unsaid, self._unsaid = self._unsaid, {}
            if not unsaid:
                return
            self._last_said_monotonic = time.monotonic()
        lost = " and ".join(f"{count} {what}" for what, count in sorted(unsaid.items()))
        reason = f": {self._reason}" if self._reason else ""
        tell(f"{lost} could not be sent to the collector{when}; no line is affected{reason}")

    def _heed(self, record: logging.LogRecord) -> bool:
        """Take a complaint of the SDK's as the reason of ours; let pass what is none."""
        if record.levelno < logging.WARNING or _wants_all():
            return True
        self._reason = record.getMessage().rstrip(".")
        if record.exc_info and record.exc_info[1] is not None:
            self._reason += f" {record.exc_info[1]!r}"
        if "metric" in record.name and record.levelno >= logging.ERROR:
            self.add(METRIC_REPORTS, 1)
        return False

    def _watch(self, processor: Any, what: str) -> None:
        batch = getattr(processor, "_batch_processor", None)
        if batch is not None:
            exporter = batch._exporter
            patch(batch, "_metrics", functools.partial(_Drops, functools.partial(self.add, what)))
        else:
            exporter = getattr(processor, "span_exporter", None) or getattr(
                processor, "_exporter", None
            )
        if exporter is None:
            return
        sending = [0]

        def counting(export: Callable[..., Any]) -> Callable[..., Any]:
            def export_and_count(items: Any, *args: Any, **kwargs: Any) -> Any:
                sending[0] = len(items)
                has_failed = True
                try:
                    result = export(items, *args, **kwargs)
                    has_failed = getattr(result, "name", "") == "FAILURE"
                    return result
                finally:
                    sending[0] = 0
                    if has_failed:
                        self.add(what, len(items))

            return export_and_count

        patch(exporter, "export", counting)
        self._held.append(
            lambda: (what, sending[0] + (len(batch._queue) if batch is not None else 0))
        )


class _Drops:
    """The self-metrics of a batch processor, which is told of what a full queue drops."""

    def __init__(self, lose: Callable[[int], None], metrics: Any) -> None:
        self._lose = lose
        self._metrics = metrics

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metrics, name)

    def drop_items(self, count: int, *args: Any, **kwargs: Any) -> None:
        """Count, and pass on."""
        self._metrics.drop_items(count, *args, **kwargs)
        self._lose(count)


def _processors(provider: Any, name: str) -> Iterator[Any]:
    """Return the processors of a provider; nothing public tells."""
    together = getattr(provider, name, None)
    for kind in ("_span_processors", "_log_record_processors"):
        yield from getattr(together, kind, ())


def _wants_all() -> bool:
    return 0 < logging.getLogger("opentelemetry").level <= logging.DEBUG
