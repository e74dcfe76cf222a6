"""Re-exports the public names; nothing happens on import.

Each name is looked up when it is first used: `opentelemetry-instrument`, the reporter and the console
script import this package, too, and use none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_canonical._version import __version__ as __version__
    from otel_canonical.request.app_facts import add, enrich, get, partial_failure, set, timer
    from otel_canonical.request.log_ids import RequestIds

__all__ = ["RequestIds", "add", "enrich", "get", "partial_failure", "set", "timer"]

_APP_FACTS = "otel_canonical.request.app_facts"
_MODULES = {
    **dict.fromkeys(("add", "enrich", "get", "partial_failure", "set", "timer"), _APP_FACTS),
    "RequestIds": "otel_canonical.request.log_ids",
    "__version__": "otel_canonical._version",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
