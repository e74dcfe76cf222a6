"""Whether a difference is more than chance: rank sums, exact proportions, many questions at once. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def rank_sum(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the two-sided p of Mann and Whitney's test: that one side isn't larger than the other.

    By ranks, so a few very long durations weigh no more than long ones; ties are corrected for. The
    normal approximation is used, which needs about eight values on each side to be small at all.
    """
    n, m = len(before), len(after)
    if not n or not m:
        return 1.0
    ranks = _ranks([*before, *after])
    u = sum(ranks[:n]) - n * (n + 1) / 2
    total = n + m
    ties = sum(many**3 - many for many in Counter([*before, *after]).values())
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    z = (abs(u - n * m / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(max(z, 0.0) / math.sqrt(2))


def more_often(before: int, of_before: int, after: int, of_after: int) -> float:
    """Return the one-sided p of Fisher's exact test: that something isn't more frequent after."""
    found, total = before + after, of_before + of_after
    whole = _log_choose(total, found)
    most = min(found, of_after)
    return min(
        1.0,
        sum(
            math.exp(_log_choose(of_after, many) + _log_choose(of_before, found - many) - whole)
            for many in range(after, most + 1)
            if found - many <= of_before
        ),
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values of questions asked together: the chance that any of the answers is a false yes."""
    adjusted = [1.0] * len(ps)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        largest = max(largest, min(1.0, ps[index] * (len(ps) - place)))
        adjusted[index] = largest
    return adjusted


def middle(values: Sequence[float]) -> float:
    """Return the median; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=lambda index: values[index])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in range(start, end + 1):
            ranks[order[place]] = (start + end) / 2 + 1
        start = end + 1
    return ranks


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
