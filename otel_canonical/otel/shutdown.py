"""Shuts the SDK down within a time limit.

Lives in the worker and in the reporter. The SDK's own exit handlers wait for a collector longer than
Gunicorn's graceful timeout allows (opentelemetry-python #4043, #3309). Here they run in threads of
their own, which are abandoned when the time is up.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable

from opentelemetry import metrics, trace

from otel_canonical.otel.export_losses import ExportLosses
from otel_canonical.otel.sdk_internals import logger_provider


def flush_spans(within_s: float) -> None:
    """Export as many of the ended spans as the time allows."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        _run_within(within_s, [flush])


def shut_down(within_s: float, losses: ExportLosses | None) -> None:
    """Shut all providers down and report what could not be exported in time.

    Args:
        within_s: the time limit.
        losses: counts and reports what is lost; None if the exporters are not watched.
    """
    shutdowns: list[Callable[[], object]] = []
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), logger_provider()):
        shutdown = getattr(provider, "shutdown", None)
        if shutdown is not None:
            atexit.unregister(shutdown)
            shutdowns.append(shutdown)
    _run_within(within_s, shutdowns)
    if losses is not None:
        losses.conclude()


def _run_within(within_s: float, calls: Iterable[Callable[[], object]]) -> bool:
    """Run each call in a thread of its own; return whether all of them finished in time."""
    deadline = time.monotonic() + within_s
    threads = [
        threading.Thread(target=call, name="otel-canonical-shutdown", daemon=True) for call in calls
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
