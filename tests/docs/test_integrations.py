"""integrations/: real tools read the same file with what we ship, and their six answers agree."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.make_lines import lines as made_lines
from otel_canonical.event import fields, json_lines
from tests.support import stores
from tests.support.answers import ENDINGS, agree, event_of
from tests.support.peers.tools import node_program
from tests.support.reading import SAMPLE
from tests.support.stores import INTEGRATIONS, QUESTIONS, Answers, Row, questions


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


@pytest.fixture(scope="module", name="events")
def events_of_file(files: tuple[Path, Path]) -> list[Row]:
    """Every event of the file."""
    rows = files[1].read_text().splitlines()
    return [json.loads(row) for row in rows if row.startswith('{"ts":')]


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
