"""What is other than before, say, a deploy: slower, newly failing, newly repeating; else silence. Pure.

A route is slower when the medians of its blocks of requests are, of wall time, of CPU time or of the time in
its view, by Mann and Whitney's rank test; it fails or repeats newly by Fisher's exact test. All p-values are
corrected by Holm for the number of questions, so that of a hundred comparisons of equal files at most one
names anything. Ten requests can't pass: about a hundred are needed on either side. What all routes have in
common, a slower machine or more traffic, is said once and taken off each route.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import NamedTuple

from otel_canonical.reading.route_profiles import RouteProfile
from otel_canonical.reading.significance import holm, middle, more_often, rank_sum
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
#: Wall time, CPU time, time in the view, queries, failures, repeats.
_QUESTIONS = 6
_QUERY_LENGTH = 60

Profiles = Mapping[str, RouteProfile]


class _Longer(NamedTuple):
    """By how much a route takes longer; 0 where that may be chance."""

    wall: float
    cpu: float
    in_view: float


class _Change(NamedTuple):
    #: By how much, over all requests of the route after.
    weight: float
    sentence: str


def compared(before: Profiles, after: Profiles) -> list[str]:
    """Return a sentence for each change, what matters most first; none where there is none."""
    routes = sorted(before.keys() & after.keys())
    wall = _shift(before, after, routes, lambda profile: profile.medians)
    cpu = _shift(before, after, routes, lambda profile: profile.cpu)
    in_view = _shift(before, after, routes, lambda profile: profile.in_view)
    asked = _surely([(before[route].queries, after[route].queries) for route in routes])
    slower: dict[str, _Change] = {}
    faster: list[str] = []
    for index, route in enumerate(routes):
        old, new = before[route], after[route]
        more_queries = middle(new.queries) - middle(old.queries)
        asks_more = asked[index] and more_queries >= LEAST_QUERIES
        longer = _Longer(wall.changes[index], cpu.changes[index], in_view.changes[index])
        change = max(longer)
        if change > 0 or asks_more:
            sentence = _slower(route, old, new, longer, asks_more)
            slower[route] = _Change(change * new.requests, sentence)
        elif wall.changes[index] < 0:
            faster.append(f"{route} is faster: p50 {_both(old.p50, new.p50)}")
    failing, healed = _failures(before, after, routes)
    repeating, once = _repeats(before, after, routes, slower.keys())
    sentences = [change.sentence for change in sorted(slower.values(), reverse=True)]
    sentences += [change.sentence for change in sorted(failing, reverse=True)]
    sentences += repeating
    if wall.is_common and abs(wall.common - 1) >= LEAST_COMMON:
        word = "slower" if wall.common > 1 else "faster"
        by = share(abs(wall.common - 1))
        sentences.append(f"all routes together: {by} {word} (the machine, the traffic, a library)")
    sentences += [*healed, *once, *faster]
    return [visible(sentence) for sentence in sentences]


class _Shift(NamedTuple):
    #: The factor by which the typical request takes longer, whatever its route.
    common: float
    #: Whether most routes, looked at one by one, surely changed in that direction.
    is_common: bool
    #: By how much a route's median is longer beyond that, by its place; 0 where that may be chance.
    changes: list[float]


def _shift(
    before: Profiles,
    after: Profiles,
    routes: list[str],
    blocks: Callable[[RouteProfile], list[float]],
) -> _Shift:
    pairs = [(blocks(before[route]), blocks(after[route])) for route in routes]
    ratios = [middle(new) / middle(old) for old, new in pairs if new and middle(old) > 0]
    common = (middle(ratios) if len(ratios) >= LEAST_ROUTES else 1.0) or 1.0
    moved = [
        (middle(new) - middle(old)) * (common - 1) > 0
        for (old, new), is_sure in zip(pairs, _surely(pairs), strict=True)
        if is_sure
    ]
    scaled = [(old, [value / common for value in new]) for old, new in pairs]
    changes: list[float] = []
    for (old, new), is_sure in zip(scaled, _surely(scaled), strict=True):
        change = middle(new) - middle(old)
        is_large = abs(change) >= max(LEAST_CHANGE * middle(old), LEAST_CHANGE_S)
        changes.append(change if is_sure and is_large else 0.0)
    return _Shift(common, 2 * sum(moved) > len(ratios), changes)


def _surely(pairs: list[tuple[list[float], list[float]]]) -> list[bool]:
    """Return for each pair whether one side is larger."""
    return [p < ALPHA / _QUESTIONS for p in holm([rank_sum(*pair) for pair in pairs])]


def _slower(
    route: str,
    old: RouteProfile,
    new: RouteProfile,
    longer: _Longer,
    asks_more: bool,
) -> str:
    wall, cpu, in_view = longer
    words = []
    if wall > 0:
        words.append(f"p50 {_both(old.p50, new.p50)}, p95 {_both(old.p95, new.p95)}")
    if cpu > 0:
        words.append(f"CPU {_both(middle(old.cpu), middle(new.cpu))}")
    if in_view > 0:
        words.append(f"view {_both(middle(old.in_view), middle(new.in_view))}")
    if wall > 0 or cpu > 0:
        grown = {name: new.places[name] - old.places[name] for name in new.places}
        most = max(grown, key=lambda name: grown[name])
        if grown[most] > 0 and not (most == "view" and in_view > 0):
            words.append(f"{most} +{duration(grown[most])}")
    place = new.view
    if asks_more:
        words.append(f"{count(middle(old.queries))} -> {count(middle(new.queries))} queries")
        fresh = [key for key in new.repeats if key not in old.repeats]
        if fresh:
            query, place = max(fresh, key=lambda key: new.repeats[key][0])
            words[-1] += f", newly repeated: {_short(query)}"
    return f"{route} {_verb(longer)}: {'; '.join(words)}" + (f" at {place}" if place else "")


def _verb(longer: _Longer) -> str:
    if longer.wall > 0:
        return "is slower"
    if longer.cpu > 0:
        return "needs more CPU"
    return "is slower in its view" if longer.in_view > 0 else "asks more"


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
    before: Profiles, after: Profiles, routes: list[str], named: Set[str]
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
    certain = [p < ALPHA / _QUESTIONS for p in holm(ps)]
    return list(zip(certain[::2], certain[1::2], strict=True))


def _both(old: float, new: float) -> str:
    return f"{duration(old)} -> {duration(new)}"


def _short(query: str) -> str:
    return query if len(query) <= _QUERY_LENGTH else query[: _QUERY_LENGTH - 1] + "…"
