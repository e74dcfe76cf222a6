"""Everything that knows the OpenTelemetry SDK."""

from __future__ import annotations
