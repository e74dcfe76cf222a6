"""Recommendations from another service, which is down unless an address is given."""

from __future__ import annotations

import json
import os
import urllib.request

import otel_canonical

# Port 9 (discard) has no listener on a normal machine: the connection is really refused.
SERVICE_URL = os.environ.get("DEMO_RECOMMENDATIONS_URL", "http://127.0.0.1:9/recommendations")
PATIENCE_S = 0.5


@otel_canonical.partial_failure(return_value=[])
def recommended_names() -> list[str]:
    """Return names of products to show; none when the service fails, the page must live."""
    return ask_service(SERVICE_URL)


def ask_service(url: str) -> list[str]:
    """Return what the service answers, straight from it: no proxy of the environment is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=PATIENCE_S) as answer:
        return [str(name) for name in json.load(answer)]
