"""The variables that `opentelemetry-instrument` offers as flags: `--canonical_max_line 8192`.

Loaded by `opentelemetry-instrument` itself, before it becomes Gunicorn. That makes it the one moment
to say which distro shall win when several are installed: otherwise the first one found does, and the
order of that search is not defined. What the user has set stays.
"""

from __future__ import annotations

import os

OTEL_PYTHON_CANONICAL_ENABLED = "OTEL_PYTHON_CANONICAL_ENABLED"
OTEL_PYTHON_CANONICAL_OUTPUT = "OTEL_PYTHON_CANONICAL_OUTPUT"
OTEL_PYTHON_CANONICAL_FORMAT = "OTEL_PYTHON_CANONICAL_FORMAT"
OTEL_PYTHON_CANONICAL_MAX_LINE = "OTEL_PYTHON_CANONICAL_MAX_LINE"
OTEL_PYTHON_CANONICAL_QUERY_STRING = "OTEL_PYTHON_CANONICAL_QUERY_STRING"
OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID = "OTEL_PYTHON_CANONICAL_RESPONSE_REQUEST_ID"
OTEL_PYTHON_CANONICAL_EXCLUDED_URLS = "OTEL_PYTHON_CANONICAL_EXCLUDED_URLS"
OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS = "OTEL_PYTHON_CANONICAL_EXCLUDED_FIELDS"
OTEL_PYTHON_CANONICAL_REDACTED_NAMES = "OTEL_PYTHON_CANONICAL_REDACTED_NAMES"

os.environ.setdefault("OTEL_PYTHON_DISTRO", "otel_canonical")
if os.environ["OTEL_PYTHON_DISTRO"] == "otel_canonical":
    os.environ.setdefault("OTEL_PYTHON_CONFIGURATOR", "otel_canonical")
