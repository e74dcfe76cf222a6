"""Why the instrumentations of database drivers record no metrics of their own here.

Lives in the worker; the SDK asks it, through `OTEL_PYTHON_METER_CONFIGURATOR`, whenever a meter is made.
Under stable names, which are our default, these instrumentations time every query in two histograms.
Queries of requests that nobody exports never reach them, so that their `db.client.operation.duration`
would be that of the sampled requests, passed off as that of all; and it would cost as much as a query's
span. Each request's queries and their time are on its line, in its span and in its log event.
"""

from __future__ import annotations

from opentelemetry.sdk.metrics._internal import _MeterConfig
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

#: Of the drivers that Django's own backends use and that OpenTelemetry instruments.
DRIVERS = frozenset(
    f"opentelemetry.instrumentation.{driver}"
    for driver in ("mysql", "mysqlclient", "psycopg", "psycopg2", "pymysql", "sqlite3")
)


def choose(scope: InstrumentationScope) -> _MeterConfig:
    """Return whether the meter of an instrumentation records."""
    return _MeterConfig(is_enabled=scope.name not in DRIVERS)
