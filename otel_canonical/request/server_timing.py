"""The response header `Server-Timing`: what has taken time so far, for the network panel of a browser.

Sums only: no name, path, text or SQL leaves by it.
"""

from __future__ import annotations

import time

from otel_canonical.request.scope import RequestScope

#: The response header (W3C Server Timing).
SERVER_TIMING_HEADER = "Server-Timing"


def server_timing(scope: RequestScope) -> str:
    """Return the value of the header, when the head of the response is about to be sent."""
    now_ns = time.perf_counter_ns()
    times_ns = {"total": now_ns - scope.started_ns}
    queries = scope.queries
    if queries is not None:
        times_ns["db"] = queries.elapsed_ns + queries.fetch_ns + queries.connect_ns + queries.txn_ns
    times_ns["cache"] = scope.cache_ns
    times_ns["tpl"] = scope.template_own_ns
    times_ns["view"] = scope.so_far(now_ns).view_ns
    metrics = [f"{name};dur={spent / 1e6:.3f}" for name, spent in times_ns.items() if spent]
    root = scope.root
    if root.is_named:
        flags = "01" if root.is_exported else "00"
        metrics.append(f'traceparent;desc="00-{root.trace_id}-{root.span_id}-{flags}"')
    return ", ".join(metrics)
