"""The whole report as plain values: its headline, where to look first, and the sections in order."""

from __future__ import annotations

from dataclasses import dataclass

from otel_canonical.reading import report_traffic, report_trouble
from otel_canonical.reading.report_first import first
from otel_canonical.reading.report_scope import Scope
from otel_canonical.reading.sections import Section
from otel_canonical.reading.wording import count, counted, duration, share

#: Said where there is no sentence.
NOTHING = "nothing stands out"


@dataclass(frozen=True, slots=True)
class Report:
    """What is shown, to a terminal or on a page."""

    headline: str
    #: What requests came to, as pairs of a name and a value.
    totals: list[tuple[str, str]]
    first: list[str]
    sections: list[Section]
    #: What is other than in the file that it was compared with; None if it wasn't.
    changed: list[str] | None = None

    def sentences(self) -> list[tuple[str, list[str]]]:
        """Return the lists of sentences, each with its title."""
        found = [("Where to look first", self.first)]
        if self.changed is not None:
            found.insert(0, ("What changed", self.changed))
        return found


def contents(scope: Scope, parts: int) -> Report:
    """Return the report about a scope, its time in at most so many parts."""
    sections = [
        report_traffic.traffic(scope, parts),
        report_traffic.durations(scope, parts),
        report_traffic.routes(scope),
        report_traffic.places(scope),
        report_trouble.repeated(scope),
        report_trouble.slowest(scope),
        report_trouble.exceptions(scope),
        report_trouble.timeouts(scope),
        report_trouble.lost(scope),
        report_traffic.saturation(scope, parts),
        report_traffic.heat(scope, parts),
        report_trouble.memory(scope),
        report_trouble.neighbours(scope),
        report_trouble.gone(scope),
    ]
    by_name = {section.name: section for section in sections}
    return Report(_headline(scope), _totals(scope), first(scope, by_name), sections)


def _headline(scope: Scope) -> str:
    (hosts,) = scope.row("SELECT count(DISTINCT req_host) FROM endings")
    same_day = scope.first.date() == scope.last.date()
    until = f"{scope.last:%H:%M}" if same_day else f"{scope.last:%d %b %H:%M}"
    return (
        f"{counted(scope.requests, 'request')}, {scope.first:%d %b %H:%M} to {until} UTC, "
        f"{counted(hosts, 'host')}"
    )


def _totals(scope: Scope) -> list[tuple[str, str]]:
    errors, timeouts, lost, *percentiles = scope.row("""
        SELECT count(*) FILTER (event_type = 'request' AND resp_status >= 500) / count(*),
            count(*) FILTER (event_type = 'timeout'), count(*) FILTER (event_type = 'lost'),
            quantile_cont(resp_time, 0.5), quantile_cont(resp_time, 0.95),
            quantile_cont(resp_time, 0.99)
        FROM endings
    """)
    found = [("5xx", share(errors)), ("timeouts", count(timeouts)), ("lost", count(lost))]
    for name, value in zip(("p50", "p95", "p99"), percentiles, strict=True):
        if value is not None:
            found.append((name, duration(value)))
    if scope.foreign:
        found.append(("foreign lines", count(scope.foreign)))
    return found
