"""Puts the dashboard's queries and the six questions for Loki to a LogQL engine, and looks at the answers.

    git clone https://github.com/go-faster/oteldb ../oteldb
    python tools/logql/check.py ../oteldb

Needs Go. The engine is oteldb's, which keeps it internal: `engine.go` is built within the clone. Entries are
held in memory: lines as Loki gets them from a file, and log events with attributes as its OTLP receiver
names them. Exits with 1 if a query fails, a panel is empty or an answer isn't the exact one.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks.make_lines import lines as made_lines  # noqa: E402
from otel_canonical.event.fields import attribute_of  # noqa: E402
from tests.support.answers import NAMES, Row, event_of, expected  # noqa: E402
from tests.support.dashboard import queries_of  # noqa: E402
from tests.support.reading import SAMPLE  # noqa: E402
from tests.support.stores import QUESTIONS, questions  # noqa: E402

NS = 1_000_000_000
#: The number that each question asks for.
NUMBERS = {
    "slowest_routes": "p95",
    "database_share": "share",
    "worst_n1": "seconds",
    "errors_by_cause": "requests",
    "queue_time": "p95",
    "saturation": "busy",
}
LINES = 2000
SEED = 7
#: Between two entries: not the lines' own, so that those of the sample are among the others.
APART_NS = NS // 10
STEP_NS = 15 * NS
#: oteldb takes `by ()` for no grouping at all; in Loki it is one group, as by a label that all share.
ONE_GROUP = ("by ()", "by (service_name)")
START_NS = 1_800_000_000 * NS


def built(clone: Path) -> Path:
    """Return the engine, built in a clone of oteldb."""
    directory = clone / "cmd" / "otel-canonical-answers"
    directory.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("engine.go"), directory / "main.go")
    program = directory / "answers"
    command = ["go", "build", "-buildvcs=false", "-o", program.name, "."]
    subprocess.run(command, cwd=directory, check=True)
    return program


def text(value: Any) -> str:
    """Return an attribute as Loki keeps it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def of_lines(lines: list[str]) -> list[dict[str, Any]]:
    """Return the lines as entries of one stream."""
    labels = {"service_name": "shop"}
    return [
        {"time": START_NS + APART_NS * number, "line": line.rstrip("\n"), "labels": labels}
        for number, line in enumerate(lines)
    ]


def of_events(events: list[Row]) -> list[dict[str, Any]]:
    """Return the log events as entries whose labels are their attributes."""
    return [
        {
            "time": START_NS + APART_NS * number,
            "line": event["event_type"],
            "labels": {
                "service_name": "shop",
                **{
                    attribute.replace(".", "_"): text(value)
                    for key, value in event.items()
                    if (attribute := attribute_of(key))
                },
            },
        }
        for number, event in enumerate(events)
    ]


def rows_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the series or streams of an answer; none of one that failed."""
    rows: list[dict[str, Any]] = answer.get("result", {}).get("result", [])
    return rows


def ask(
    engine: Path, entries: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the engine's answers."""
    done = subprocess.run(
        [engine],
        input=json.dumps({"entries": entries, "questions": asked}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def wrong(question: str, answer: dict[str, Any], events: list[Row]) -> list[str]:
    """Return how the answer to one of the six questions differs from the exact one."""
    if "error" in answer:
        return [f"{question}: {answer['error']}"]
    rows = rows_of(answer)
    named = {name for row in rows for name in row["metric"]}
    names = (
        NAMES[2:] if question == "errors_by_cause" else [name for name in NAMES if name in named]
    )
    given = {
        tuple(row["metric"].get(name, "") for name in names): float(row["value"][1]) for row in rows
    }
    number = NUMBERS[question]
    wanted = {key: row[number] for key, row in expected(question, events).items()}
    if set(given) != set(wanted):
        return [f"{question}: {sorted(given)} instead of {sorted(wanted)}"]
    found = []
    for key, exact in wanted.items():
        low, high = exact if isinstance(exact, tuple) else (exact, exact)
        if not low * (1 - 1e-6) <= given[key] <= high * (1 + 1e-6):
            found.append(f"{question}: {key} is {given[key]}, not {exact}")
    return found


def main() -> None:
    """Ask, compare and print; exit with 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clone", type=Path, help="of github.com/go-faster/oteldb")
    engine = built(parser.parse_args().clone.resolve())
    written = [*made_lines(LINES, seed=SEED), *SAMPLE.read_text().splitlines()]
    lines = random.Random(SEED).sample(written, len(written))
    lines = [line for line in lines if line.startswith("ts=")]
    events = [event_of(line) for line in lines]
    end = START_NS + APART_NS * len(lines)
    whole = f"{APART_NS * len(lines) // NS + 1}s"
    problems: list[str] = []
    asked = [
        {"query": query.replace("$__range", whole).replace(*ONE_GROUP), "start": end, "end": end}
        for query in (questions("loki/questions.logql")[name] for name in QUESTIONS)
    ]
    for question, answer in zip(QUESTIONS, ask(engine, of_lines(lines), asked), strict=True):
        found = wrong(question, answer, events)
        print(f"{question}: {'; '.join(found) or 'the exact answer'}")
        problems += found
    panels = list(queries_of("loki"))
    asked = [
        {
            "query": query.replace(*ONE_GROUP),
            "start": START_NS + STEP_NS,
            "end": end,
            "step": STEP_NS,
        }
        for _, query in panels
    ]
    for (title, query), answer in zip(panels, ask(engine, of_events(events), asked), strict=True):
        rows = rows_of(answer)
        print(f"{title}: {answer.get('error') or f'{len(rows)} series'}")
        if not rows:
            problems.append(f"{title}: {query}")
    print(f"{len(problems)} problems in {len(QUESTIONS)} questions and {len(panels)} queries")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
