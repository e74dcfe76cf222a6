"""Makes the alert rules, for Prometheus and for Grafana, and their table in the docs. Used by `generate.py`.

A metric `gunicorn.workers.died` is `gunicorn_workers_died_total` in Prometheus, `job` is the service's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

MADE = "written by `make docs` from docs/alert_files.py"

_REQUESTS = "http_server_request_duration_seconds_count"


class Alert(NamedTuple):
    """One alert.

    `expr` is true while there is a problem, for so long as `lasts`; `todo` is one sentence for the
    person who is woken.
    """

    name: str
    expr: str
    lasts: str
    severity: str
    meaning: str
    todo: str


ALERTS = (
    Alert(
        "PoolFull",
        "max by (job) (gunicorn_utilization_ratio) > 0.9",
        "5m",
        "page",
        "more than 90 % of the pool's slots have been busy for five minutes",
        "Run `otel-canonical ps` on the host: it lists what fills the slots, the oldest first.",
    ),
    Alert(
        "RequestsWait",
        "max by (job) (gunicorn_backlog) > 0",
        "2m",
        "page",
        "connections wait to be accepted",
        "Look for a slow dependency with `otel-canonical stacks`; add workers only if CPUs are idle.",
    ),
    Alert(
        "RequestsTimeOut",
        'sum by (job) (increase(canonical_lines_total{canonical_event_type="timeout"}[10m])) > 0',
        "0m",
        "ticket",
        "Gunicorn killed a worker because of a request that took too long",
        "Read `timeout_cause_loc` of the `timeout` lines: give the call that stands there a time limit.",
    ),
    Alert(
        "RequestsLost",
        'sum by (job) (increase(canonical_lines_total{canonical_event_type="lost"}[10m])) > 0',
        "0m",
        "page",
        "requests died with their worker",
        "Read `lost_cause` of the `lost` lines: `oom` wants a higher limit or fewer requests a worker.",
    ),
    Alert(
        "WorkersDie",
        "sum by (job, gunicorn_worker_death_cause) (increase(gunicorn_workers_died_total"
        '{gunicorn_worker_death_cause!~"shutdown|exit:0"}[15m])) > 3',
        "0m",
        "page",
        "workers keep dying, of another cause than a restart or --max-requests",
        "The label is the cause; Gunicorn's error log at that time has the traceback of the worker.",
    ),
    Alert(
        "RequestsFail",
        f"sum by (job) (rate({_REQUESTS}{{http_response_status_code=~'5..'}}[5m]))"
        f" / sum by (job) (rate({_REQUESTS}[5m])) > 0.05",
        "5m",
        "page",
        "more than 5 % of the requests are answered with a 5xx",
        "Run `otel-canonical report` on the lines of the last minutes: exceptions are listed by cause.",
    ),
    Alert(
        "LinesDropped",
        "sum by (job) (increase(canonical_lines_dropped_total[10m])) > 0",
        "0m",
        "ticket",
        "lines could not be written",
        "Look at the disk, or at the process that reads the server's output: one of them is stuck.",
    ),
    Alert(
        "ExportsLost",
        "sum by (job, otel_signal) (increase(canonical_export_lost_total[10m])) > 0",
        "5m",
        "ticket",
        "spans or log records could not be exported",
        "Gunicorn's error log says why; look at the Collector's health and its memory limit.",
    ),
)


def prometheus_rules() -> str:
    """Return the rules as Prometheus and Mimir load them. JSON strings are YAML, too."""
    rows = [f"# {MADE}", "groups:", "  - name: otel-canonical", "    rules:"]
    for alert in ALERTS:
        rows += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expr)}",
            f"        for: {alert.lasts}",
            f"        labels: {{ severity: {alert.severity} }}",
            "        annotations:",
            f"          summary: {json.dumps('{{ $labels.job }}: ' + alert.meaning)}",
            f"          description: {json.dumps(alert.todo)}",
        ]
    return "\n".join(rows) + "\n"


def grafana_rules() -> str:
    """Return the rules as Grafana provisions them; the data source's uid is `prometheus`."""
    rows = [
        f"# {MADE}",
        "apiVersion: 1",
        "groups:",
        "  - orgId: 1",
        "    name: otel-canonical",
        "    folder: otel-canonical",
        "    interval: 1m",
        "    rules:",
    ]
    for alert in ALERTS:
        query, bound = alert.expr.rsplit(" > ", 1)
        rows += [
            f"      - uid: canonical-{alert.name.lower()}",
            f"        title: {alert.name}",
            "        condition: B",
            "        data:",
            "          - refId: A",
            "            relativeTimeRange: { from: 900, to: 0 }",
            "            datasourceUid: prometheus",
            f"            model: {{ refId: A, instant: true, expr: {json.dumps(query)} }}",
            "          - refId: B",
            "            datasourceUid: __expr__",
            "            model:",
            "              refId: B",
            "              type: threshold",
            "              expression: A",
            f"              conditions: [{{ evaluator: {{ type: gt, params: [{bound}] }} }}]",
            f"        for: {alert.lasts}",
            "        noDataState: OK",
            f"        labels: {{ severity: {alert.severity} }}",
            "        annotations:",
            f"          summary: {json.dumps(alert.meaning)}",
            f"          description: {json.dumps(alert.todo)}",
        ]
    return "\n".join(rows) + "\n"


def alert_rows() -> list[tuple[str, ...]]:
    """Return the rows of the table in the docs."""
    return [(alert.name, alert.meaning, alert.todo) for alert in ALERTS]


FILES: dict[str, Callable[[], str]] = {
    "grafana/alerts-prometheus.yaml": prometheus_rules,
    "grafana/alerts-grafana.yaml": grafana_rules,
}
