"""Re-exports the public names; nothing happens on import."""

from __future__ import annotations

from otel_canonical.request.app_facts import add, enrich, get, partial_failure, set, timer
from otel_canonical.request.log_ids import RequestIds

__all__ = ["RequestIds", "add", "enrich", "get", "partial_failure", "set", "timer"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from otel_canonical._version import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
