"""What is other than before, say, a deploy: slower, newly failing, newly repeating; else silence. Pure.

A route is slower when the medians of its blocks of requests are, by Mann and Whitney's rank test; it
fails or repeats newly by Fisher's exact test. All p-values are corrected by Holm for the number of
questions, so that of a hundred comparisons of equal files at most one names anything. Ten requests can't
pass: about a hundred are needed on either side. What all routes have in common, a slower machine or more
traffic, is said once and taken off each route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from otel_canonical.reading.route_profiles import RouteProfile
from otel_canonical.reading.significance import holm, more_often, rank_sum
from otel_canonical.reading.wording import count, counted, duration, share, visible

#: The chance of a false alarm, over all questions of a comparison together.
ALPHA = 0.01
#: Less is no news, however certain it is.
LEAST_CHANGE = 0.15
LEAST_CHANGE_S = 0.0005
LEAST_QUERIES = 0.5
#: So many routes say what they have in common.
LEAST_ROUTES = 4
LEAST_COMMON = 0.1
_LEAST_FAILURES = 3
_QUERY_LENGTH = 60

Profiles = Mapping[str, RouteProfile]


class _Change(NamedTuple):
    #: By how much, over all requests of the route after.
    weight: float
    sentence: str


def compared(before: Profiles, after: Profiles) -> list[str]:
    """Return a sentence for each change, what matters most first; none where there is none."""
    routes = sorted(before.keys() & after.keys())
    common = _common(before, after, routes)
    slower, faster = _durations(before, after, routes, common)
    named = {route for route, _ in slower}
    failing, healed = _failures(before, after, routes)
    repeating, once = _repeats(before, after, routes, named)
    found = [change for _, change in slower]
    sentences = [change.sentence for change in sorted(found, reverse=True)]
    sentences += [change.sentence for change in sorted(failing, reverse=True)]
    sentences += repeating
    if abs(common - 1) >= LEAST_COMMON:
        word = "slower" if common > 1 else "faster"
        sentences.append(
            f"all routes together: {share(abs(common - 1))} {word} (the machine, the traffic, a library)"
        )
    sentences += [*healed, *once, *faster]
    return [visible(sentence) for sentence in sentences]


def _common(before: Profiles, after: Profiles, routes: list[str]) -> float:
    """Return the factor by which the typical request is slower, whatever its route."""
    ratios = [
        after[route].p50 / before[route].p50
        for route in routes
        if before[route].medians and after[route].medians and before[route].p50 > 0
    ]
    if len(ratios) < LEAST_ROUTES:
        return 1.0
    ratios.sort()
    middle = len(ratios) // 2
    return ratios[middle] if len(ratios) % 2 else (ratios[middle - 1] + ratios[middle]) / 2


def _durations(
    before: Profiles, after: Profiles, routes: list[str], common: float
) -> tuple[list[tuple[str, _Change]], list[str]]:
    ps: list[float] = []
    for route in routes:
        scaled = [median / common for median in after[route].medians]
        ps.append(rank_sum(before[route].medians, scaled))
        ps.append(rank_sum(before[route].queries, after[route].queries))
    certain = [p < ALPHA for p in holm(ps)]
    slower: list[tuple[str, _Change]] = []
    faster: list[str] = []
    for index, route in enumerate(routes):
        old, new = before[route], after[route]
        change = _middle(new.medians) / common - _middle(old.medians)
        is_other = certain[2 * index] and abs(change) >= max(
            LEAST_CHANGE * _middle(old.medians), LEAST_CHANGE_S
        )
        more_queries = _middle(new.queries) - _middle(old.queries)
        asks_more = certain[2 * index + 1] and more_queries >= LEAST_QUERIES
        if (is_other and change > 0) or asks_more:
            sentence = _slower(route, old, new, is_other=is_other, asks_more=asks_more)
            slower.append((route, _Change(max(change, 0.0) * new.requests, sentence)))
        elif is_other:
            faster.append(f"{route} is faster: p50 {_both(old.p50, new.p50)}")
    return slower, faster


def _slower(
    route: str, old: RouteProfile, new: RouteProfile, *, is_other: bool, asks_more: bool
) -> str:
    words = []
    if is_other:
        words.append(f"p50 {_both(old.p50, new.p50)}, p95 {_both(old.p95, new.p95)}")
        place, grown = max(
            ((name, new.places[name] - old.places[name]) for name in new.places),
            key=lambda pair: pair[1],
        )
        if grown > 0:
            words.append(f"{place} +{duration(grown)}")
    place = new.view
    if asks_more:
        asked = f"{count(_middle(old.queries))} -> {count(_middle(new.queries))} queries"
        fresh = [key for key in new.repeats if key not in old.repeats]
        if fresh:
            query, place = max(fresh, key=lambda key: new.repeats[key][0])
            asked += f", newly repeated: {_short(query)}"
        words.append(asked)
    verb = "is slower" if is_other else "asks more"
    return f"{route} {verb}: {'; '.join(words)}" + (f" at {place}" if place else "")


def _failures(
    before: Profiles, after: Profiles, routes: list[str]
) -> tuple[list[_Change], list[str]]:
    asked = [
        (route, cause)
        for route in routes
        for cause in sorted(before[route].failures.keys() | after[route].failures.keys())
    ]
    certain = _certain(
        [
            (before[route].failures.get(cause, 0), after[route].failures.get(cause, 0), route)
            for route, cause in asked
        ],
        before,
        after,
    )
    failing, healed = [], []
    for (route, cause), (is_more, is_less) in zip(asked, certain, strict=True):
        old, new = before[route].failures.get(cause, 0), after[route].failures.get(cause, 0)
        if is_more and new >= _LEAST_FAILURES:
            verb = "fails more often" if old else "fails newly"
            of_all = f"{counted(new, 'request')}, {share(new / after[route].requests)} of it"
            failing.append(_Change(new, f"{route} {verb}: {cause} ({of_all})"))
        elif is_less and old >= _LEAST_FAILURES:
            healed.append(f"{'rarer' if new else 'gone'}: {cause} ({route})")
    return failing, healed


def _repeats(
    before: Profiles, after: Profiles, routes: list[str], named: set[str]
) -> tuple[list[str], list[str]]:
    asked = [
        (route, key)
        for route in routes
        for key in sorted(before[route].repeats.keys() | after[route].repeats.keys())
    ]
    none = (0, 0.0)
    certain = _certain(
        [
            (before[route].repeats.get(key, none)[0], after[route].repeats.get(key, none)[0], route)
            for route, key in asked
        ],
        before,
        after,
    )
    repeating, once = [], []
    for (route, (query, place)), (is_more, is_less) in zip(asked, certain, strict=True):
        runs = after[route].repeats.get((query, place), none)[1]
        if is_more and route not in named:
            repeating.append(f"{route} repeats newly: {count(runs)}x {_short(query)} at {place}")
        elif is_less and (query, place) not in after[route].repeats:
            once.append(f"gone: N+1 at {place} ({route})")
    return repeating, once


def _certain(
    counts: list[tuple[int, int, str]], before: Profiles, after: Profiles
) -> list[tuple[bool, bool]]:
    """Return for each count whether it is surely more, and whether it is surely less, than before."""
    ps: list[float] = []
    for old, new, route in counts:
        of_old, of_new = before[route].requests, after[route].requests
        ps += [more_often(old, of_old, new, of_new), more_often(new, of_new, old, of_old)]
    certain = [p < ALPHA for p in holm(ps)]
    return list(zip(certain[::2], certain[1::2], strict=True))


def _middle(values: list[float]) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _both(old: float, new: float) -> str:
    return f"{duration(old)} -> {duration(new)}"


def _short(query: str) -> str:
    return query if len(query) <= _QUERY_LENGTH else query[: _QUERY_LENGTH - 1] + "…"
