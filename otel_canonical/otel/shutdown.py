"""How a worker takes leave of the SDK: what it still holds is exported, within a bound.

Lives in the worker. The SDK's own exit handlers wait as long as a collector lets them (opentelemetry-
python #4043, #3309), beyond what Gunicorn grants; here they run beside, and are left behind if need be.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import _logs, metrics, trace

from otel_canonical.otel.export_losses import ExportLosses


def flush_spans(within_s: float) -> None:
    """Export the spans that have ended, as many as fit into the time."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        _run_within(within_s, [flush])


def leave(within_s: float, losses: ExportLosses | None) -> None:
    """Shut all providers down; what isn't exported by then is lost, and said.

    Args:
        within_s: the bound.
        losses: says what is lost; None if nobody watches the exporters.
    """
    shutdowns: list[Callable[[], Any]] = []
    for provider in (
        trace.get_tracer_provider(),
        metrics.get_meter_provider(),
        _logs.get_logger_provider(),
    ):
        shutdown = getattr(provider, "shutdown", None)
        if shutdown is not None:
            atexit.unregister(shutdown)
            shutdowns.append(shutdown)
    _run_within(within_s, shutdowns)
    if losses is not None:
        losses.conclude()


def _run_within(within_s: float, calls: Iterable[Callable[[], Any]]) -> bool:
    """Return whether all calls, each in a thread of its own, came back in time."""
    deadline = time.monotonic() + within_s
    threads = [
        threading.Thread(target=call, name="otel-canonical-farewell", daemon=True) for call in calls
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
