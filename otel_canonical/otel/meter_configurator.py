"""Switches off the metrics that instrumentations of database drivers would record.

Lives in the worker. The SDK calls `choose` whenever a meter is made, through
`OTEL_PYTHON_METER_CONFIGURATOR`.

Under stable names, our default, these instrumentations record each query's time in two histograms. They
don't see the queries of requests that aren't exported, so `db.client.operation.duration` would describe
the sampled requests and look as if it described all of them. It would also cost as much as the query's
span. A request's queries and their time are on its line, its span and its log event.
"""

from __future__ import annotations

from typing import NamedTuple

from opentelemetry.sdk.util.instrumentation import InstrumentationScope

#: The instrumented drivers that Django's own backends use.
DRIVERS = frozenset(
    f"opentelemetry.instrumentation.{driver}"
    for driver in ("mysql", "mysqlclient", "psycopg", "psycopg2", "pymysql", "sqlite3")
)


class MeterConfig(NamedTuple):
    """Whether a meter records. The SDK reads this one attribute; its own such class is private."""

    is_enabled: bool


def choose(scope: InstrumentationScope) -> MeterConfig:
    """Return whether the meter of an instrumentation records."""
    return MeterConfig(is_enabled=scope.name not in DRIVERS)
