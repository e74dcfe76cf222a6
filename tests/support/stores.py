"""The six questions of integrations/, put to the stores that they are written for."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from otel_canonical.event.fields import attribute_of
from tests.support.addresses import unused_address
from tests.support.peers.packages import installed_aside
from tests.support.peers.tools import (
    REPOSITORY,
    built_once,
    give_up,
    require_tool,
    run_or_give_up,
)
from tests.support.servers import eventually, stop

INTEGRATIONS = REPOSITORY / "integrations"
QUESTIONS = (
    *("slowest_routes", "database_share", "worst_n1"),
    *("errors_by_cause", "queue_time", "saturation"),
)
PATIENCE_S = 120.0
BUILD_PATIENCE_S = 900.0

Row = dict[str, Any]
#: Answers a question by its name.
Answers = Callable[[str], list[Row]]


def questions(file: str) -> dict[str, str]:
    """Return the queries of a file by the names of the questions."""
    text = (INTEGRATIONS / file).read_text()
    return {
        name: query.strip()
        for name, query in re.findall(
            r"(?:#|--) question: (\w+)\n(.*?)(?=\n(?:#|--) question:|\Z)", text, re.DOTALL
        )
    }


def lnav(file: Path, home: Path, view: str) -> Answers:
    """Return the answers of lnav for a file of lines; a question may be a statement, too.

    `view` names the file that makes `events`.
    """
    program = require_tool("lnav", "apt-get install lnav")
    environment = {**os.environ, "HOME": str(home), "TERM": "xterm"}
    environment.pop("XDG_CONFIG_HOME", None)
    subprocess.run(
        [program, "-i", INTEGRATIONS / "lnav" / "otel_canonical.json"],
        check=True,
        env=environment,
        capture_output=True,
    )

    def answer(question: str) -> list[Row]:
        script = home / "script.lnav"
        query = questions("lnav/questions.lnav").get(question, question)
        made = (INTEGRATIONS / "lnav" / view).read_text()
        script.write_text(f"{made}\n{query}\n:write-json-to -\n")
        done = subprocess.run(
            [program, "-n", "-f", script, file],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=environment,
            check=True,
        )
        rows: list[Row] = json.loads(done.stdout) if done.stdout.strip() else []
        return rows

    return answer


def goaccess(file: Path) -> dict[str, tuple[int, int]]:
    """Return what GoAccess says of each route: requests, and the longest time in microseconds."""
    program = require_tool("goaccess", "apt-get install goaccess")
    configuration = INTEGRATIONS / "goaccess" / "goaccess.conf"
    [command] = re.findall(r"^# +(grep .+)$", configuration.read_text(), re.MULTILINE)
    command = command.replace("goaccess -p", f"{program} -o json --no-progress -p")
    done = subprocess.run(
        ["bash", "-c", command.replace("lines.json", str(file))],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=configuration.parent,
        check=True,
    )
    report = json.loads(done.stdout)
    found = {}
    for panel in ("requests", "not_found", "static_requests"):
        for row in report.get(panel, {}).get("data", []):
            hits, longest = found.get(row["data"], (0, 0))
            found[row["data"]] = (hits + row["hits"]["count"], max(longest, row["maxts"]))
    return found


def duckdb_alone(file: Path) -> Answers:
    """Return the answers of DuckDB on a file of JSON, without this package."""
    connection = duckdb.connect()
    view = (INTEGRATIONS / "duckdb" / "events.sql").read_text()
    connection.execute(view.replace("'lines.json'", f"'{file}'"))
    asked = questions("duckdb/questions.sql")

    def answer(question: str) -> list[Row]:
        cursor = connection.execute(asked[question])
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return answer


def _ask_chdb(directory: Path, setup: list[str]) -> Answers:
    # Another process: its library brings an allocator, and threads.
    asked = questions("clickhouse/questions.sql")
    program = (
        "import json, sys\n"
        "from chdb import session\n"
        "given = json.load(sys.stdin)\n"
        "connection = session.Session(given['path'])\n"
        "for statement in given['setup']:\n"
        "    connection.query(statement)\n"
        "print(json.dumps({name: str(connection.query(query.rstrip(';'), 'JSONEachRow'))\n"
        "    for name, query in given['asked'].items()}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps({"path": str(directory / "chdb"), "setup": setup, "asked": asked}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(installed_aside("chdb"))},
    )
    if "Failed to load library" in done.stderr:
        give_up("chdb has no library for this Python", "use CPython 3.10 to 3.14")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return lambda question: [json.loads(row) for row in found[question].splitlines()]


_ROWS = (
    "input_format_skip_unknown_fields=1, date_time_input_format='best_effort', "
    "input_format_allow_errors_ratio=0.1"
)


def clickhouse(file: Path, directory: Path) -> Answers:
    """Return the answers of ClickHouse on a table of lines in JSON."""
    table = (INTEGRATIONS / "clickhouse" / "events.sql").read_text()
    insert = f"INSERT INTO events FROM INFILE '{file}' SETTINGS {_ROWS} FORMAT JSONEachRow"
    return _ask_chdb(directory, [table.rstrip().rstrip(";"), insert])


#: As the exporter of the Collector makes it.
_OTEL_LOGS = """CREATE TABLE otel_logs (
    Timestamp DateTime64(9), TraceId String, SpanId String, TraceFlags UInt8,
    SeverityText LowCardinality(String), SeverityNumber UInt8, ServiceName LowCardinality(String),
    Body String, ResourceAttributes Map(LowCardinality(String), String),
    LogAttributes Map(LowCardinality(String), String)
) ENGINE = MergeTree ORDER BY (ServiceName, Timestamp)"""


def clickhouse_of_collector(events: list[Row], directory: Path) -> Answers:
    """Return the answers of ClickHouse on the table that the Collector's exporter fills."""
    rows = [
        {
            "Timestamp": event["ts"],
            "LogAttributes": {
                attribute_of(key): str(value).lower() if isinstance(value, bool) else str(value)
                for key, value in event.items()
                if attribute_of(key)
            },
        }
        for event in events
    ]
    file = directory / "otel_logs.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    view = (INTEGRATIONS / "clickhouse" / "events-of-collector.sql").read_text()
    insert = f"INSERT INTO otel_logs FROM INFILE '{file}' SETTINGS {_ROWS} FORMAT JSONEachRow"
    return _ask_chdb(directory, [_OTEL_LOGS, insert, view.rstrip().rstrip(";")])


@cache
def _victorialogs() -> str:
    go = require_tool("go", "install Go 1.21 or newer, for example `apt-get install golang-go`")
    here = REPOSITORY / "tests" / "support" / "peers" / "victorialogs"
    package = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs"

    def build(directory: Path) -> None:
        command = [go, "build", "-buildvcs=false", "-o", "victoria-logs", package]
        run_or_give_up(command, directory, f"`cd {here} && go mod download`", BUILD_PATIENCE_S)

    sources = [here / "go.mod", here / "go.sum"]
    return str(built_once("victorialogs", sources, build) / "victoria-logs")


_FORM = "application/x-www-form-urlencoded"


@contextlib.contextmanager
def victorialogs(file: Path, directory: Path) -> Iterator[Answers]:
    """Start VictoriaLogs, give it lines in JSON, and give its answers."""
    address = unused_address()
    log = directory / "victorialogs.log"
    # Lines of any year are taken.
    ages = ["-retentionPeriod=100y", "-futureRetention=100y"]
    listen = [f"-httpListenAddr={address}", f"-storageDataPath={directory / 'data'}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [_victorialogs(), *listen, *ages],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def post(path: str, body: bytes) -> str:
        kind = "application/stream+json" if "/insert/" in path else _FORM
        request = urllib.request.Request(f"http://{address}{path}", body, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return str(response.read().decode())

    def is_up() -> bool:
        with contextlib.suppress(OSError):
            return post("/health", b"") == "OK"
        return False

    def answer(question: str) -> list[Row]:
        query = urllib.parse.urlencode({"query": asked[question]}).encode()
        return [json.loads(row) for row in post("/select/logsql/query", query).splitlines()]

    asked = questions("victorialogs/questions.logsql")
    try:
        eventually(is_up, log.read_text)
        fields = "_time_field=ts&_msg_field=req_path&_stream_fields=event_type"
        post(f"/insert/jsonline?{fields}", file.read_bytes())
        count = urllib.parse.urlencode({"query": "* | count() n"}).encode()
        lines = sum(1 for row in file.read_text().splitlines() if row.startswith('{"ts":'))
        eventually(
            lambda: f'"{lines}"' in post("/select/logsql/query", count),
            lambda: post("/select/logsql/query", count) + log.read_text(),
        )
        yield answer
    finally:
        stop(process)
