"""The numbers of all rounds, as a table for people and as JSON for machines."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rounds import Cost, RowResult
from rows import Row

Rounds = Sequence[dict[str, RowResult]]
COLUMNS = ("row", "µs/request", "added", "min..max", "later", "to access", "to ancestor", "server")
SHOWN_PACKAGES = (
    "opentelemetry-sdk",
    "opentelemetry-distro",
    "gunicorn-django-canonical-logs",
    "django-structlog",
    "structlog",
    "logfire",
    "otel-canonical",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """One row on one path: medians over the rounds, in µs; differences are taken within a round."""

    worker_us: float
    added_us: float
    added_min_us: float
    added_max_us: float
    later_us: float
    server_added_us: float


def summarize(rounds: Rounds, name: str, path: str) -> Summary:
    """Return the row's summary against `bare`."""
    added = _differences(rounds, name, path, lambda cost: cost.worker_us)
    server_added = _differences(rounds, name, path, lambda cost: cost.server_us)
    costs = [results[name].costs[path] for results in rounds]
    return Summary(
        worker_us=statistics.median(cost.worker_us for cost in costs),
        added_us=statistics.median(added),
        added_min_us=min(added),
        added_max_us=max(added),
        later_us=statistics.median(cost.later_us for cost in costs),
        server_added_us=statistics.median(server_added),
    )


def format_tables(rounds: Rounds, rows: Sequence[Row], paths: Sequence[str]) -> str:
    """Return one Markdown table for each path, and one for what does not depend on a path."""
    tables = [_format_path(rounds, rows, path) for path in paths]
    return "\n\n".join([*tables, _format_rest(rounds, rows)])


def to_json(rounds: Rounds, rows: Sequence[Row], paths: Sequence[str], facts: Any) -> Any:
    """Return facts, summaries and every single measurement."""
    return {
        "facts": facts,
        "rows": {
            row.name: {
                "meaning": row.meaning,
                "summary": {
                    path: dataclasses.asdict(summarize(rounds, row.name, path)) for path in paths
                },
                "rounds": [dataclasses.asdict(results[row.name]) for results in rounds],
            }
            for row in rows
        },
    }


def gather_facts(packages: dict[str, dict[str, str]], options: dict[str, Any]) -> dict[str, Any]:
    """Return what a reader must know of the machine and of what was installed."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    bare = packages["bare"]
    return {
        "python": platform.python_version(),
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "django": bare["django"],
        "gunicorn": bare["gunicorn"],
        **{
            name: " and ".join(sorted(versions))
            for name in SHOWN_PACKAGES
            if (versions := {found[name] for found in packages.values() if name in found})
        },
        "command": " ".join(["python", "benchmarks/overhead.py", *sys.argv[1:]]),
        "options": options,
    }


def _differences(
    rounds: Rounds, name: str, path: str, figure: Callable[[Cost], float]
) -> list[float]:
    return [
        figure(results[name].costs[path]) - figure(results["bare"].costs[path])
        for results in rounds
    ]


def _format_path(rounds: Rounds, rows: Sequence[Row], path: str) -> str:
    summaries = {row.name: summarize(rounds, row.name, path) for row in rows}
    lines = [
        [
            name,
            f"{found.worker_us:.0f}",
            *(
                ["", "", "", "", "", ""]
                if name == "bare"
                else [
                    f"{found.added_us:+.1f}",
                    f"{found.added_min_us:+.0f}..{found.added_max_us:+.0f}",
                    f"{found.later_us:.1f}" if found.later_us else "",
                    _ratio(found, summaries.get("access-log")),
                    _ratio(found, summaries.get("ancestor")),
                    f"{found.server_added_us:+.1f}",
                ]
            ),
        ]
        for name, found in summaries.items()
    ]
    return f"`{path}`\n\n" + _align([list(COLUMNS), *lines])


def _format_rest(rounds: Rounds, rows: Sequence[Row]) -> str:
    lines = [["row", "idle µs/s", "server spans", "spans", "log records", "posts"]]
    for row in rows:
        results = [found[row.name] for found in rounds]
        sent = sum(sum(result.sent.values()) for result in results)
        received = [result.received for result in results]
        line = [row.name, f"{statistics.median(result.idle_us_per_s for result in results):.0f}"]
        if row.exports:
            server_spans = sum(found.server_spans for found in received)
            line += [
                f"{100 * server_spans / sent:.2f} % of requests",
                str(sum(found.spans for found in received)),
                str(sum(found.log_records for found in received)),
                str(sum(found.posts for found in received)),
            ]
        lines.append(line + [""] * (len(lines[0]) - len(line)))
    return "All paths\n\n" + _align(lines)


def _ratio(found: Summary, other: Summary | None) -> str:
    return f"{found.added_us / other.added_us:.2f}" if other and other.added_us else ""


def _align(lines: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    texts = ["| " + " | ".join(_pad(line, widths)) + " |" for line in [lines[0], rule, *lines[1:]]]
    return "\n".join(texts)


def _pad(line: list[str], widths: list[int]) -> list[str]:
    first, *others = (
        text.ljust(width) if column == 0 else text.rjust(width)
        for column, (text, width) in enumerate(zip(line, widths, strict=True))
    )
    return [first, *others]
