"""A warehouse that takes its time to answer."""

from __future__ import annotations

import time

LONGEST_S = 60.0


def wait_for_stock(seconds: float) -> float:
    """Sleep as long as asked and return it."""
    time.sleep(seconds)
    return seconds
