"""Which routes are open in the pool: what else ran when a request was late.

Read from the scoreboard, by a worker or by the arbiter, only when there is something to explain.
"""

from __future__ import annotations

from collections import Counter

from otel_canonical.pool.scoreboard import Scoreboard

#: The most routes that are named.
MOST_ROUTES = 8

#: For a request whose URL is not resolved yet, or never will be.
NO_ROUTE = "-"


def open_routes(scoreboard: Scoreboard) -> Counter[str]:
    """Return how many requests are open of each route, as `shown_route` spells it."""
    return Counter([shown_route(route) for route in scoreboard.open_routes()])


def shown_route(route: str | None) -> str:
    """Return a route without white space."""
    return "".join((route or NO_ROUTE).split())


def shown_routes(counts: Counter[str]) -> str:
    """Return routes as a line shows them, the most frequent first: `3*reports/ 1*checkout/`."""
    # By name where they are equally many, so that the same pool is always shown alike.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count}*{route}" for route, count in ordered[:MOST_ROUTES] if count > 0]
    others = sum([count for _, count in ordered[MOST_ROUTES:] if count > 0])
    if others:
        named.append(f"{others}*...")
    return " ".join(named)
