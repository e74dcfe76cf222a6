"""A program that serves nothing: it makes a span and ends."""

from __future__ import annotations

from opentelemetry import trace

with trace.get_tracer("cron").start_as_current_span("cleaning up"):
    pass
