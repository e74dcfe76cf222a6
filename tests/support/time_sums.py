"""Whether the times of a line add up, by place and by state, and how much of it is in no place."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

PLACES = ("mw_time", "view_time", "tpl_self_time", "body_time", "resp_other_time")
DATABASE = ("db_time", "db_fetch_time", "db_connect_time", "db_txn_time")
STATES = ("resp_cpu_time", "resp_cpu_wait", "resp_blocked")

#: Parts of other times, times of the app's own, and times before the request.
NO_PLACES = ("app_", "db_", "gc_", "req_", "resp_", "tpl_")

#: How much may be missing from a sum, and how large the rest of an ordinary page may be.
GAP_SHARE, REST_SHARE, LEAST_S = 0.02, 0.05, 0.001

Line = Mapping[str, Any]


class Sums(NamedTuple):
    """What the times of one line come to, in seconds."""

    elapsed: float
    #: By how much the places miss it.
    place_gap: float
    #: By how much the states miss it; None where there are none.
    state_gap: float | None
    #: The server's own time, and Django's outside of middleware; without the wait for a CPU where that is known.
    rest: float

    def are_right(self) -> bool:
        """Return whether places and states add up."""
        most = max(GAP_SHARE * self.elapsed, LEAST_S)
        return self.place_gap <= most and (self.state_gap is None or self.state_gap <= most)

    def has_small_rest(self) -> bool:
        """Return whether next to nothing is outside of the other places."""
        return self.rest <= max(REST_SHARE * self.elapsed, LEAST_S)


def seconds_of(line: Line, keys: Iterable[str]) -> float:
    """Return the sum of some times of a line."""
    return sum(float(line.get(key, 0)) for key in keys)


def sums_of(line: Line) -> Sums:
    """Return what the times of a line come to."""
    elapsed = float(line["resp_time"])
    systems = [
        key
        for key in line
        if key.endswith("_time") and not key.startswith(NO_PLACES) and key not in PLACES
    ]
    together = seconds_of(line, (*PLACES, *DATABASE, *systems)) - seconds_of(line, ["resp_overlap"])
    state_gap = None
    if "resp_blocked" in line:
        state_gap = abs(seconds_of(line, STATES) - elapsed)
    rest = max(seconds_of(line, ["resp_other_time"]) - seconds_of(line, ["resp_cpu_wait"]), 0.0)
    return Sums(elapsed, abs(together - elapsed), state_gap, rest)


def negative_keys(line: Line) -> list[str]:
    """Return the keys of times that are below zero."""
    return [
        key
        for key in (*PLACES, *DATABASE, *STATES, "cache_time", "resp_overlap", "gc_time")
        if float(line.get(key, 0)) < 0
    ]


def summary(sums: list[Sums]) -> str:
    """Return the worst and the median gap and rest, in milliseconds."""
    states = [one.state_gap for one in sums if one.state_gap is not None]
    parts = [f"{len(sums)} lines"]
    for name, values in (
        ("gap of places", [one.place_gap for one in sums]),
        ("gap of states", states),
        ("rest", [one.rest for one in sums]),
    ):
        if values:
            worst, median = 1000 * max(values), 1000 * statistics.median(values)
            parts.append(f"{name}: worst {worst:.3f} ms, median {median:.3f} ms")
    small = sum(one.has_small_rest() for one in sums)
    return "; ".join([*parts, f"small rests: {small}"])
