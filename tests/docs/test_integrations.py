"""integrations/: real tools read the same file with what we ship, and their six answers agree."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.make_lines import lines as made_lines
from otel_canonical.event import fields, json_lines, logfmt
from tests.support import stores
from tests.support.peers.tools import node_program
from tests.support.reading import SAMPLE
from tests.support.stores import INTEGRATIONS, QUESTIONS, Answers, Row, questions

#: What names a row of an answer; the other columns are numbers.
NAMES = (
    *("req_route", "db_n1_loc", "event_type"),
    *("exc_type", "exc_cause_loc", "timeout_cause_loc", "lost_cause"),
)
ENDINGS = ("request", "timeout", "lost")
Answer = dict[tuple[str, ...], dict[str, float]]


@pytest.fixture(scope="module", name="files")
def files_of_lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same lines as logfmt and as JSON, foreign ones among them."""
    directory = tmp_path_factory.mktemp("integrations")
    plain, as_json = directory / "lines.log", directory / "lines.json"
    made = [*made_lines(2000, seed=7), *SAMPLE.read_text().splitlines(keepends=True)]
    plain.write_text("".join(made))
    with as_json.open("w") as file:
        for line in made:
            if line.startswith("ts="):
                file.write(json_lines.encode(event_of(line).items()) + "\n")
            elif not line.startswith(("Traceback", " ", "catalog.")):
                file.write(line)
    return plain, as_json


def event_of(line: str) -> Row:
    """Return a line's facts with the types of its fields."""
    types = {field.key: field.type for field in fields.FIELDS}
    found: Row = {}
    for key, text in logfmt.parse(line.rstrip("\n")).items():
        kind = types.get(key) or ("float" if key.endswith("_time") else "str")
        if kind == "int":
            found[key] = int(text)
        elif kind == "float":
            found[key] = float(text)
        else:
            found[key] = text == "true" if kind == "bool" else text
    return found


@pytest.fixture(scope="module", name="events")
def events_of_file(files: tuple[Path, Path]) -> list[Row]:
    """Every event of the file."""
    rows = files[1].read_text().splitlines()
    return [json.loads(row) for row in rows if row.startswith('{"ts":')]


def quantile(values: list[float]) -> tuple[float, float]:
    """Return the least and the largest value that may be called the 95th percentile."""
    ordered = sorted(values)
    rank = math.ceil(0.95 * len(ordered)) - 1
    return ordered[max(rank - 1, 0)], ordered[min(rank + 1, len(ordered) - 1)]


def expected(question: str, events: list[Row]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the exact answer; a pair is the bounds of a percentile."""
    requests = [event for event in events if event["event_type"] == "request"]
    by_route: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for event in requests:
        if "req_route" in event:
            by_route[(event["req_route"],)].append(event)
    if question == "slowest_routes":
        return {
            route: {"p95": quantile([e["resp_time"] for e in rows]), "requests": len(rows)}
            for route, rows in by_route.items()
        }
    if question == "database_share":
        found = {}
        for route, rows in by_route.items():
            seconds = sum(e["resp_time"] for e in rows)
            share = sum(e.get("db_time", 0) for e in rows) / seconds
            found[route] = {"share": share, "seconds": seconds}
        return found
    if question == "worst_n1":
        return grouped(events, ("db_n1_loc",), "db_n1_loc", {"seconds": "db_n1_time"})
    if question == "errors_by_cause":
        failed = [
            event
            for event in events
            if event["event_type"] in ("timeout", "lost")
            or (event["event_type"] == "request" and event.get("resp_status", 0) >= 500)
        ]
        return grouped(failed, NAMES[2:], "event_type", {})
    if question == "queue_time":
        waits = [event["req_queue_time"] for event in events if "req_queue_time" in event]
        whole = {"p95": quantile(waits), "longest": max(waits), "requests": len(waits)}
        return {(): whole}
    endings = [
        event
        for event in events
        if event["event_type"] in ENDINGS and event.get("g_t_count", 0) > 0
    ]
    busy = sum(event["g_t_active"] / event["g_t_count"] for event in endings) / len(endings)
    return {(): {"busy": busy, "backlog": max(event.get("g_backlog", 0) for event in endings)}}


def grouped(
    events: list[Row], names: tuple[str, ...], needed: str, sums: dict[str, str]
) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return sums and counts of the events with a key, by the values of some keys."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for event in events:
        if needed in event:
            row = found.setdefault(
                tuple(event.get(name, "") for name in names),
                {**dict.fromkeys(sums, 0.0), "requests": 0},
            )
            row["requests"] += 1
            for name, key in sums.items():
                row[name] += event[key]
    return found


def shaped(rows: list[Row]) -> Answer:
    """Return an answer as numbers by names; absent names are empty texts."""
    found: Answer = {}
    for row in rows:
        names = tuple(str(row.get(name) or "") for name in NAMES if name in row)
        found[names] = {
            name: float(value) for name, value in row.items() if name not in NAMES and value != ""
        }
    return found


def agree(question: str, rows: list[Row], events: list[Row]) -> None:
    """Hold an answer against the exact one."""
    wanted = expected(question, events)
    given = shaped(rows)
    if question == "errors_by_cause":  # a store without a column for absent names leaves it out
        width = len(NAMES[2:])
        given = {
            tuple(str(row.get(name) or "") for name in NAMES[2:]): {
                "requests": float(row["requests"])
            }
            for row in rows
        }
        assert all(len(names) == width for names in given)
    assert set(given) == set(wanted)
    for names, numbers in wanted.items():
        for name, number in numbers.items():
            if isinstance(number, tuple):
                low, high = number
                assert low - 1e-9 <= given[names][name] <= high + 1e-9, (names, name)
            else:
                assert given[names][name] == pytest.approx(number, rel=1e-6), (names, name)


@pytest.mark.parametrize("question", QUESTIONS)
def test_lnav_answers(
    question: str,
    files: tuple[Path, Path],
    events: list[Row],
    tmp_path: Path,
) -> None:
    """On logfmt, by its own format, and on JSON, by ours."""
    for file, view in zip(files, ("events-logfmt.lnav", "events-json.lnav"), strict=True):
        home = tmp_path / view
        home.mkdir()
        agree(question, stores.lnav(file, home, view)(question), events)


def test_foreign_lines_are_no_part_of_a_value_in_lnav(
    files: tuple[Path, Path], events: list[Row], tmp_path: Path
) -> None:
    """lnav takes them for more of the line before; an id must be found all the same."""
    ask = stores.lnav(files[0], tmp_path, "events-logfmt.lnav")
    rows = ask(";SELECT DISTINCT req_id FROM events WHERE req_id IS NOT NULL")
    assert {row["req_id"] for row in rows} == {e["req_id"] for e in events if "req_id" in e}


@pytest.mark.parametrize("question", QUESTIONS)
def test_duckdb_answers(question: str, files: tuple[Path, Path], events: list[Row]) -> None:
    """With the view alone, without this package."""
    agree(question, stores.duckdb_alone(files[1])(question), events)


@pytest.fixture(scope="module", name="clickhouse")
def clickhouse_answers(
    files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Answers:
    """ClickHouse with the table for lines."""
    return stores.clickhouse(files[1], tmp_path_factory.mktemp("clickhouse"))


@pytest.fixture(scope="module", name="of_collector")
def clickhouse_answers_of_collector(
    events: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> Answers:
    """ClickHouse with the view on the Collector's table."""
    return stores.clickhouse_of_collector(events, tmp_path_factory.mktemp("collector"))


@pytest.mark.parametrize("question", QUESTIONS)
def test_clickhouse_answers(
    question: str, clickhouse: Answers, of_collector: Answers, events: list[Row]
) -> None:
    """From lines in JSON, and from log events as the Collector's exporter stores them."""
    agree(question, clickhouse(question), events)
    agree(question, of_collector(question), events)


@pytest.fixture(scope="module", name="victorialogs")
def victorialogs_answers(
    files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Answers]:
    """A real VictoriaLogs with the lines."""
    with stores.victorialogs(files[1], tmp_path_factory.mktemp("victorialogs")) as answers:
        yield answers


@pytest.mark.parametrize("question", QUESTIONS)
def test_victorialogs_answers(question: str, victorialogs: Answers, events: list[Row]) -> None:
    """By LogsQL."""
    agree(question, victorialogs(question), events)


def test_goaccess_counts_routes(files: tuple[Path, Path], events: list[Row]) -> None:
    """Requests of each route and their longest time; it has no percentiles."""
    found = stores.goaccess(files[1])
    wanted: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if {"req_route", "req_client"} <= set(event) and event["event_type"] in ENDINGS:
            wanted[event["req_route"]].append(event["resp_time"])
    assert {route: hits for route, (hits, _) in found.items() if route in wanted} == {
        route: len(times) for route, times in wanted.items()
    }
    for route, times in wanted.items():
        assert found[route][1] == pytest.approx(1e6 * max(times), abs=2)


def test_loki_queries_are_logql() -> None:
    """Grafana's grammar takes each, and every label is a key of a line."""
    asked = questions("loki/questions.logql")
    assert set(asked) == set(QUESTIONS)
    done = subprocess.run(
        node_program("logql", "tests/support/peers/logql"),
        input=json.dumps([query.replace("$__range", "1h") for query in asked.values()]),
        capture_output=True,
        text=True,
        check=True,
    )
    read = json.loads(done.stdout)
    assert [one["errors"] for one in read if one["errors"]] == []
    keys = {field.key for field in fields.FIELDS} | {"service_name", "share"}
    assert {name for one in read for name in one["names"]} <= keys


def test_every_store_has_every_question() -> None:
    """None was forgotten."""
    for file in ("lnav/questions.lnav", "duckdb/questions.sql", "clickhouse/questions.sql"):
        assert set(questions(file)) == set(QUESTIONS)
    assert set(questions("victorialogs/questions.logsql")) == set(QUESTIONS)


def test_other_files_are_well_formed() -> None:
    """Vector's and the Collector's files are YAML, and each parser of Fluent Bit has its time."""
    for file in ("vector/vector.yaml", "clickhouse/collector-clickhouse.yaml"):
        assert yaml.safe_load((INTEGRATIONS / file).read_text())
    parsers = (INTEGRATIONS / "fluent-bit" / "parsers.conf").read_text()
    assert re.findall(r"Format +(\w+)", parsers) == ["logfmt", "json"]
    assert parsers.count("Time_Key    ts") == 2
