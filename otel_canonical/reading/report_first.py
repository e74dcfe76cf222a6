"""Where to look first: at most five sentences, each about something that goes away if it is mended.

What costs time is ranked by its share of all requests' time. What fails requests is ranked by its share
of all failures, scaled so that the only cause of all failures weighs as much as a fifth of the time;
a timeout or a lost request counts tenfold, because it took its worker with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from otel_canonical.reading.report_scope import Scope
from otel_canonical.reading.sections import Row, Section
from otel_canonical.reading.wording import count, counted, duration, share, size, visible

MOST = 5
#: Less than that of all time is not worth a sentence.
LEAST_SCORE = 0.005

_FAILURES_WEIGHT = 0.2
_DEAD_WEIGHT = 10
_LEAST_LATE = 5
_LEAST_LATE_SHARE = 0.3
_LEAST_PART = 0.05
_LEAST_ROUTE_PART = 0.3
_LEAST_GROWTH_BYTES = 200e6
_GROWTH_SCORE = 0.02
_LONG_QUEUE_S = 0.1
_QUERY_LENGTH = 70
#: What first came after so much of the time is said to have begun then.
_BEGAN = 0.1
_LEAST_TO_HAVE_BEGUN = 3


class Finding(NamedTuple):
    """One sentence, and how much goes away with it."""

    score: float
    sentence: str


def first(scope: Scope, sections: Mapping[str, Section]) -> list[str]:
    """Return the sentences, what matters most first."""
    findings = [
        *_by_time(scope, sections),
        *_by_failures(scope, sections),
        *_others(scope, sections),
    ]
    findings.sort(key=lambda finding: (-finding.score, finding.sentence))
    return [visible(text) for score, text in findings if score >= LEAST_SCORE][:MOST]


def _by_time(scope: Scope, sections: Mapping[str, Section]) -> Iterator[Finding]:
    (total,) = scope.row("SELECT sum(resp_time) FROM endings")
    if not total:
        return
    for place, route, query, requests, times, spent in sections["n1"].rows:
        # One of each query would be left.
        part = (spent or 0.0) * (1 - 1 / max(times or 1, 1)) / total
        yield Finding(
            part,
            f"{share(part)} of all time is N+1: {_short(query)} at {place} "
            f"({route}, {counted(requests, 'request')}, {count(times)} each)",
        )
    for place, route, query, requests, spent, median, _ in sections["slowest"].rows:
        yield Finding(
            spent / total,
            f"{share(spent / total)} of all time is one query: {_short(query)} at {place} "
            f"({route}, {counted(requests, 'request')}, {duration(median)} each)",
        )
    yield from _calls_and_cpu(scope, total)


def _calls_and_cpu(scope: Scope, total: float) -> Iterator[Finding]:
    for route, view, requests, spent, of_route in scope.rows("""
        SELECT route, mode(resp_view), count(http_time), sum(http_time) AS spent,
            sum(http_time) / nullif(sum(resp_time), 0)
        FROM endings GROUP BY route HAVING spent > 0
    """):
        part = spent / total
        if part >= _LEAST_PART and of_route >= _LEAST_ROUTE_PART:
            yield Finding(
                part,
                f"{share(part)} of all time is outgoing HTTP calls of {view} "
                f"({route}, {counted(requests, 'request')}, {share(of_route)} of its time)",
            )
    (waited,) = scope.row("SELECT sum(resp_cpu_wait) FROM endings")
    if waited and waited / total >= _LEAST_PART:
        yield Finding(
            waited / total,
            f"{share(waited / total)} of all time requests were ready to run and had no CPU: "
            "a CPU limit, or other processes on the machine",
        )


def _by_failures(scope: Scope, sections: Mapping[str, Section]) -> Iterator[Finding]:
    timeouts, lost = sections["timeouts"].rows, sections["lost"].rows
    exceptions = [row for row in sections["exceptions"].rows if row[3]]
    aborted = sum(row[2] for row in timeouts)
    dead = sum(row[3] for row in lost)
    (failed,) = scope.row(
        "SELECT count(*) FROM endings WHERE event_type = 'request' AND resp_status >= 500"
    )
    weight = _FAILURES_WEIGHT / max(failed + _DEAD_WEIGHT * (aborted + dead), 1)
    for place, route, many, *_ in timeouts:
        if many:
            of_all = f"{count(many)} of {counted(aborted, 'timeout')}"
            yield Finding(many * _DEAD_WEIGHT * weight, f"{of_all} at {place} ({route})")
    for cause, place, route, many, *_ in lost:
        of_all = f"{count(many)} of {counted(dead, 'request')} lost with their worker"
        at = f" at {place}" if place else ""
        yield Finding(many * _DEAD_WEIGHT * weight, f"{of_all}: {cause}{at} ({route})")
    for row in exceptions:
        yield Finding(row[3] * weight, _failing(scope, row))


def _failing(scope: Scope, row: Row) -> str:
    kind, place, route, failures, _, _, began, *_ = row
    since = ""
    lasts = scope.last - scope.first
    if failures >= _LEAST_TO_HAVE_BEGUN and began - scope.first > _BEGAN * lasts:
        since = f" since {began:%H:%M}"
    return f"{route} fails{since}: {kind} at {place} ({counted(failures, 'request')})"


def _others(scope: Scope, sections: Mapping[str, Section]) -> Iterator[Finding]:
    for route, late, part, *_ in sections["neighbours"].rows[:1]:
        if late >= _LEAST_LATE and part >= _LEAST_LATE_SHARE:
            yield Finding(
                _FAILURES_WEIGHT * part * min(1.0, 100 * late / scope.requests),
                f"{route} fills the pool: open on {share(part)} of all late requests",
            )
    for route, requests, grown, _ in sections["memory"].rows[:1]:
        if grown >= _LEAST_GROWTH_BYTES:
            yield Finding(
                _GROWTH_SCORE,
                f"{route} makes workers grow: {size(grown)} in {counted(requests, 'request')}",
            )
    (queued,) = scope.row("SELECT quantile_cont(req_queue_time, 0.95) FROM endings")
    if queued and queued >= _LONG_QUEUE_S:
        yield Finding(
            _LEAST_PART, f"requests wait {duration(queued)} (p95) before Gunicorn accepts them"
        )


def _short(query: str) -> str:
    return query if len(query) <= _QUERY_LENGTH else query[: _QUERY_LENGTH - 1] + "…"
