"""Loyalty points, broken on purpose: no currency has a rate."""

from __future__ import annotations

RATES: dict[str, int] = {}


class NoRate(LookupError):
    """There is no rate for this currency."""


def points_for(cents: int, currency: str) -> int:
    """Return the points that a purchase earns."""
    return cents * rate_of(currency) // 100


def rate_of(currency: str) -> int:
    """Return the points for one unit of a currency, or raise NoRate."""
    if currency not in RATES:
        raise NoRate(f'no rate for "{currency}": ask accounting, code=E42')
    return RATES[currency]
