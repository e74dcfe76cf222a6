"""OpenTelemetry's environment variables: their values checked, mended, and what they say is exported."""

from __future__ import annotations
