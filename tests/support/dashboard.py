"""The dashboard that we ship, and its queries with Grafana's variables replaced as it would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.support.peers.tools import REPOSITORY

DASHBOARD = REPOSITORY / "grafana" / "dashboard.json"
VARIABLES = {
    "$service": ".+",
    "$route": ".*",
    "$__range": "15m",
    "$__auto": "1m",
    "$__rate_interval": "1m",
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries_of(kind: str) -> Iterator[tuple[str, str]]:
    """Return title and query of each target of one kind of data source."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            if target["datasource"]["type"] == kind:
                query = target["expr"]
                for name, value in VARIABLES.items():
                    query = query.replace(name, value)
                yield panel["title"], query
