"""The variables that `opentelemetry-instrument` offers as flags: `--canonical_max_line 8192`.

`opentelemetry-instrument` loads this module before it becomes Gunicorn. So this is also the place to
choose the distro when several are installed: otherwise the first one found wins, in an undefined order.
A choice that the user has made is kept.
"""

from __future__ import annotations

import os
import sys

from otel_canonical.otel_environment.checks import is_installed

OTEL_PYTHON_CANONICAL_ENABLED = "OTEL_PYTHON_CANONICAL_ENABLED"
OTEL_PYTHON_CANONICAL_OUTPUT = "OTEL_PYTHON_CANONICAL_OUTPUT"
OTEL_PYTHON_CANONICAL_FORMAT = "OTEL_PYTHON_CANONICAL_FORMAT"
OTEL_PYTHON_CANONICAL_MAX_LINE = "OTEL_PYTHON_CANONICAL_MAX_LINE"
OTEL_PYTHON_CANONICAL_QUERY_STRING = "OTEL_PYTHON_CANONICAL_QUERY_STRING"
OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID = "OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID"
OTEL_PYTHON_CANONICAL_EXCLUDED_URLS = "OTEL_PYTHON_CANONICAL_EXCLUDED_URLS"
OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS = "OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS"
OTEL_PYTHON_CANONICAL_REDACTED_NAMES = "OTEL_PYTHON_CANONICAL_REDACTED_NAMES"
OTEL_PYTHON_CANONICAL_LOG_EVENTS = "OTEL_PYTHON_CANONICAL_LOG_EVENTS"
OTEL_PYTHON_CANONICAL_POOL_METRICS = "OTEL_PYTHON_CANONICAL_POOL_METRICS"
OTEL_PYTHON_CANONICAL_POOL_INTERVAL_SECONDS = "OTEL_PYTHON_CANONICAL_POOL_INTERVAL_SECONDS"
OTEL_PYTHON_CANONICAL_APP_LOGS = "OTEL_PYTHON_CANONICAL_APP_LOGS"
OTEL_PYTHON_CANONICAL_TEMPLATE_SPANS = "OTEL_PYTHON_CANONICAL_TEMPLATE_SPANS"
OTEL_PYTHON_CANONICAL_CACHE_SPANS = "OTEL_PYTHON_CANONICAL_CACHE_SPANS"
OTEL_PYTHON_CANONICAL_SQL_COMMENTER = "OTEL_PYTHON_CANONICAL_SQL_COMMENTER"
OTEL_PYTHON_CANONICAL_ALWAYS_EXPORT = "OTEL_PYTHON_CANONICAL_ALWAYS_EXPORT"
OTEL_PYTHON_CANONICAL_FLUSH_SECONDS = "OTEL_PYTHON_CANONICAL_FLUSH_SECONDS"
OTEL_PYTHON_CANONICAL_TIMEOUT_MARGIN_SECONDS = "OTEL_PYTHON_CANONICAL_TIMEOUT_MARGIN_SECONDS"
OTEL_PYTHON_CANONICAL_SLOW_SECONDS = "OTEL_PYTHON_CANONICAL_SLOW_SECONDS"
OTEL_PYTHON_CANONICAL_SLOW_INTERVAL_SECONDS = "OTEL_PYTHON_CANONICAL_SLOW_INTERVAL_SECONDS"
OTEL_PYTHON_CANONICAL_SLOW_EXEMPT = "OTEL_PYTHON_CANONICAL_SLOW_EXEMPT"
OTEL_PYTHON_CANONICAL_SLOW_LOCALS = "OTEL_PYTHON_CANONICAL_SLOW_LOCALS"

#: No setting: makes `--config`, an option of Gunicorn's, unambiguous for `opentelemetry-instrument`, which
#: would complete it to one of its own.
OTEL_CONFIG = "OTEL_CONFIG"


def _choose(variable: str, group: str) -> None:
    """Choose ours unless the user has chosen another one that is installed."""
    chosen = os.environ.get(variable, "")
    if chosen and not is_installed(group, chosen):
        sys.stderr.write(
            f"otel-canonical: {variable}={chosen!r} is not installed; using otel_canonical\n"
        )
        chosen = ""
    os.environ[variable] = chosen or "otel_canonical"


_choose("OTEL_PYTHON_DISTRO", "opentelemetry_distro")
if os.environ["OTEL_PYTHON_DISTRO"] == "otel_canonical" or os.environ.get(
    "OTEL_PYTHON_CONFIGURATOR"
):
    _choose("OTEL_PYTHON_CONFIGURATOR", "opentelemetry_configurator")
