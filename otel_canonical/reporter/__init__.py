"""The process that exports the pool's metrics and the spans of requests that died."""

from __future__ import annotations
