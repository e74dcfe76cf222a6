"""Lines of hosts that export nothing: the Collector turns them into the same log events."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_canonical.event import fields, json_lines, logfmt
from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.event.fields import ERROR_STACK_ATTRIBUTE, STACK_ATTRIBUTE, attribute_of
from otel_canonical.event.summary import summary
from tests.support.hostile_texts import PIECES, UNPAIRED_SURROGATES, hostile_events
from tests.support.otlp_sink import SunkLog
from tests.support.peers.collector import (
    CONFIG,
    LINES_CONFIG,
    LOOPBACK,
    Collector,
    shipped_collector,
    validate,
)
from tests.support.servers import eventually, gunicorn

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEAD = {
    "ts": "2026-11-21T03:58:34.283Z",
    "event_type": "request",
    "req_id": "",
    "trace_id": TRACE,
    "span_id": SPAN,
    "sampled": True,
}

#: Of the same request these differ from run to run.
OF_THE_RUN = {
    *(field.attribute for field in fields.FIELDS if field.unit == "s"),
    *("process.pid", "http.request.id", "gunicorn.workers.active", "gunicorn.slots.active"),
}
#: What is there only when it was seen in time, or when there was some.
OF_THE_MOMENT = {
    *("gunicorn.backlog", "canonical.overlap", "canonical.imports", "canonical.memory.growth"),
    *("canonical.gc.time", "canonical.gc.runs"),
}
VISITS = [
    *("/ok/", "/queries/", "/facts/", "/raises/", "/missing/", "/stream/"),
    *("/bad-template/", "/async-view/", "/wsgi-raises/", "/no-such-page/?a=b c"),
]


def as_read(value: Any) -> Any:
    """Return what becomes of an app's value by way of logfmt, which knows no types."""
    if value in ("true", "false"):
        return value == "true"
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", str(value)):
        return int(value)
    return value


def write(file: Path, lines: list[str]) -> None:
    """Append lines, as a server does."""
    with file.open("a", encoding="utf-8") as opened:
        opened.write("".join(line + "\n" for line in lines))


@pytest.fixture
def lines_file(tmp_path: Path) -> Path:
    """Where the lines are."""
    file = tmp_path / "lines.log"
    file.touch()
    return file


@pytest.fixture
def reader(tmp_path: Path, lines_file: Path) -> Iterator[Collector]:
    """A Collector that reads the lines, with the configurations that we ship."""
    with shipped_collector(
        tmp_path,
        LINES_CONFIG,
        "yaml:receivers::file_log/lines::poll_interval: 20ms",
        CANONICAL_LINES=str(lines_file),
        CANONICAL_LINES_START_AT="beginning",
        OTEL_SERVICE_NAME="shop",
    ) as peer:
        yield peer


def read(peer: Collector, count: int, *, events: bool = False) -> list[SunkLog]:
    """Return what came out of the Collector, so many records; or so many events, and no others."""

    def arrived() -> list[SunkLog]:
        return [log for log in list(peer.received.logs) if log.event_name or not events]

    eventually(
        lambda: len(arrived()) >= count,
        lambda: f"{len(arrived())} of {count} arrived\n{peer.said()}",
    )
    assert len(arrived()) == count
    return arrived()


def test_collector_accepts_both_files() -> None:
    """`otelcol validate` has nothing against either way to use them."""
    assert validate(CONFIG, **LOOPBACK) == ""
    assert validate(CONFIG, LINES_CONFIG, **LOOPBACK) == ""


def test_collector_accepts_tail_sampling_when_it_is_uncommented(tmp_path: Path) -> None:
    """The example is one: take the marks away, and it works."""
    text = Path(CONFIG).read_text()
    uncommented = tmp_path / "config.yaml"
    text = text.replace("      processors: [memory_limiter, batch]\n      #?", "      #?")
    uncommented.write_text(text.replace("#? ", ""))
    assert "tail_sampling:" in uncommented.read_text()
    assert validate(str(uncommented), **LOOPBACK) == ""


@pytest.mark.parametrize("encoder", [logfmt, json_lines], ids=["logfmt", "json"])
def test_value_is_whole_whatever_a_client_sent(
    reader: Collector, lines_file: Path, encoder: Any
) -> None:
    """Quotes, escapes, control characters, empty values, `=`: all as in the line, no key more."""
    values = [*PIECES, *UNPAIRED_SURROGATES, ""]
    values += [value for event in hostile_events() for value in event.values()]
    events = [
        {**HEAD, "req_id": str(number), "req_path": value, "app_value": value, "app_last": "end"}
        for number, value in enumerate(values)
    ]
    write(lines_file, [encoder.encode(event.items()) for event in events])
    logs = {log.attributes["http.request.id"]: log for log in read(reader, len(events))}
    for number, value in enumerate(values):
        shown = re.sub("[\ud800-\udfff]", "\ufffd", value)
        assert logs[str(number)].attributes == {
            "canonical.event_type": "request",
            "http.request.id": str(number),
            "url.path": shown,
            "app.value": as_read(shown) if encoder is logfmt else shown,
            "app.last": "end",
        }


def test_every_field_has_name_and_type_of_its_attribute(
    reader: Collector, lines_file: Path
) -> None:
    """Each key of a line becomes the attribute that the log event has, of the same type."""
    samples = {"str": "7", "int": 7, "float": 1.0, "bool": True, "any": 2.5}
    event = {field.key: samples[field.type] for field in fields.FIELDS} | HEAD
    expected = {attribute_of(key): value for key, value in event.items() if attribute_of(key)}
    for field, name in itertools.product(fields.PATTERNS, ("redis", "aws.dynamodb", "ap")):
        key, attribute = (re.sub("<.+>", name, text) for text in (field.key, field.attribute))
        event[key] = expected[attribute] = samples[field.type]
    write(lines_file, [encode(event.items()) for encode in (logfmt.encode, json_lines.encode)])
    for log in read(reader, 2):
        assert log.attributes == expected
        assert {name: type(value) for name, value in log.attributes.items()} == {
            name: type(value) for name, value in expected.items()
        }
        assert (log.trace_id, log.span_id) == (TRACE, SPAN)
        assert log.resource["service.name"] == "shop"


@pytest.mark.parametrize(
    ("event", "severity"),
    [
        ({"event_type": "request", "resp_status": 200}, "INFO"),
        ({"event_type": "request", "resp_status": 404}, "INFO"),
        ({"event_type": "request", "resp_status": 500}, "ERROR"),
        ({"event_type": "request"}, "INFO"),
        ({"event_type": "timeout"}, "ERROR"),
        ({"event_type": "lost"}, "ERROR"),
        ({"event_type": "slow"}, "WARN"),
        ({"event_type": "partial_failure", "resp_status": 500}, "WARN"),
    ],
)
def test_severity_is_that_of_the_log_event(
    reader: Collector, lines_file: Path, event: dict[str, Any], severity: str
) -> None:
    """The Collector judges as we do."""
    from otel_canonical.otel.log_events import kind_of

    ours = kind_of(EventType(event["event_type"]), event.get("resp_status"))
    assert ours.severity_text == severity
    write(lines_file, [logfmt.encode({"ts": HEAD["ts"], **event, "req_id": "a"}.items())])
    [log] = read(reader, 1)
    name = f"canonical.{event['event_type']}"
    assert (log.severity, log.event_name) == (severity, name)


def test_other_lines_go_on_as_they_are(reader: Collector, lines_file: Path) -> None:
    """What the app prints among the lines is a log record of its own, and so is half a line."""
    others = [
        'hello "world"',
        '{"level": "info"}',
        'ts=2026-11-21T03:58:34.283Z event_type=request req_path="cut',
    ]
    write(lines_file, others)
    logs = read(reader, len(others))
    assert {log.body for log in logs} >= set(others[:2])
    assert {log.event_name for log in logs} == {""}


@pytest.mark.parametrize("gates", ["", "ottl.set.allowNil"])
def test_collector_has_nothing_to_warn_of(gates: str, tmp_path: Path) -> None:
    """It starts and reads a line without a warning, also when setting nil no longer is ignored."""
    file = tmp_path / "lines.log"
    file.touch()
    with shipped_collector(
        tmp_path,
        LINES_CONFIG,
        gates=gates,
        CANONICAL_LINES=str(file),
        CANONICAL_LINES_START_AT="beginning",
    ) as reader:
        write(file, [logfmt.encode({"ts": HEAD["ts"], "event_type": "pool"}.items())])
        [log] = read(reader, 1)
        said = reader.said()
    assert (log.body, log.event_name, log.trace_id) == ("pool", "canonical.pool", "")
    assert log.attributes == {"canonical.event_type": "pool"}
    assert [row for row in said.splitlines() if "\twarn\t" in row or "\terror\t" in row] == []


BODIES: list[dict[str, Any]] = [
    {"req_method": "GET", "req_path": "/a/", "resp_status": 200, "resp_time": 0.0125},
    {"resp_status": 400, "resp_time": 0.001},
    {"event_type": "timeout", "req_method": "GET", "req_path": "/a/", "resp_status": 500}
    | {"resp_time": 4.29, "timeout_cause_loc": "a.py:12:wait", "exc_type": "SystemExit"},
    {"event_type": "lost", "req_method": "GET", "req_path": "/a/", "resp_time": 3.98938}
    | {"lost_cause": "oom", "lost_cause_loc": "a.py:1:f"},
    {"event_type": "lost", "resp_time": 1.0},
    {"event_type": "slow", "req_method": "GET", "req_path": "/a/", "resp_time": 5.0}
    | {"slow_cause_loc": "a.py:1:f", "exc_type": "Handled"},
    {"event_type": "partial_failure", "exc_type": "URLError", "exc_cause_loc": "a.py:1:f"},
    {"event_type": "slow_query", "db_query": "SELECT 1", "db_query_time": 1.8}
    | {"db_query_loc": "a.py:1:f"},
    {"event_type": "pool", "g_w_count": 4},
]


@pytest.mark.parametrize("encoder", [logfmt, json_lines], ids=["logfmt", "json"])
def test_body_is_that_of_the_log_event(reader: Collector, lines_file: Path, encoder: Any) -> None:
    """The Collector makes the same text of a line as we do of the event."""
    events = [HEAD | {"req_id": str(number)} | event for number, event in enumerate(BODIES)]
    write(lines_file, [encoder.encode(event.items()) for event in events])
    logs = {log.attributes["http.request.id"]: log.body for log in read(reader, len(events))}
    for event in events:
        kind = EventType(event["event_type"])
        ours = CanonicalEvent.of_pairs(kind, list(event.items()))
        assert logs[event["req_id"]] == summary(kind, ours.attributes())


@pytest.mark.parametrize("encoding", ["logfmt", "json"])
def test_lines_become_what_came_by_otlp(
    reader: Collector, lines_file: Path, encoding: str, tmp_path: Path
) -> None:
    """One server writes and exports: each of its log events has a twin made of its line, to the value."""
    with gunicorn(
        "every_kind",
        tmp_path,
        SITE_DIRECTORY=str(tmp_path),
        OTEL_PYTHON_CANONICAL_OUTPUT=str(lines_file),
        OTEL_PYTHON_CANONICAL_FORMAT=encoding,
        OTEL_EXPORTER_OTLP_ENDPOINT=reader.endpoint,
        OTEL_METRICS_EXPORTER="none",
        OTEL_TRACES_EXPORTER="none",
        OTEL_BLRP_SCHEDULE_DELAY="20",
    ) as site:
        for path in VISITS:
            site.get(path.replace(" ", "%20"))
    logs = read(reader, 2 * len(VISITS), events=True)
    exported = [log for log in logs if log.resource.get("telemetry.sdk.name")]
    made = {log.attributes["http.request.id"]: log for log in logs if log not in exported}
    assert len(exported) == len(made) == len(VISITS)
    for log in exported:
        twin = made[log.attributes["http.request.id"]]
        assert twin.attributes == without_stack(log)
        assert types_of(twin.attributes) == types_of(without_stack(log))
        assert (twin.event_name, twin.body, twin.severity, twin.trace_id, twin.span_id) == (
            (log.event_name, log.body, log.severity, log.trace_id, log.span_id)
        )


def test_lines_of_one_run_are_events_of_another(
    reader: Collector, lines_file: Path, tmp_path: Path
) -> None:
    """A server that only writes and one that exports: the same requests, the same attributes."""
    runs = {
        "writes": {"OTEL_PYTHON_CANONICAL_OUTPUT": str(lines_file)},
        "exports": {
            "OTEL_EXPORTER_OTLP_ENDPOINT": reader.endpoint,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BLRP_SCHEDULE_DELAY": "20",
        },
    }
    found = []
    for name, settings in runs.items():
        directory = tmp_path / name
        directory.mkdir()
        with gunicorn("every_kind", directory, SITE_DIRECTORY=str(directory), **settings) as site:
            for path in VISITS:
                site.get(path.replace(" ", "%20"))
        logs = read(reader, len(VISITS), events=True)
        found.append({log.attributes["url.path"]: of_any_run(log) for log in logs})
        reader.received.logs.clear()
    assert found[0] == found[1]


def without_stack(log: SunkLog) -> dict[str, Any]:
    """Return the attributes but for the stacks, which are on no line."""
    stacks = (STACK_ATTRIBUTE, ERROR_STACK_ATTRIBUTE)
    return {name: value for name, value in log.attributes.items() if name not in stacks}


def of_any_run(log: SunkLog) -> dict[str, Any]:
    """Return the attributes that the same request has in any run, and the types of the others."""
    return {
        name: type(value) if name in OF_THE_RUN or name.endswith("_time") else value
        for name, value in without_stack(log).items()
        if name not in OF_THE_MOMENT
    }


def types_of(attributes: Any) -> dict[str, type]:
    """Return the types, which equality does not tell apart: 1 is 1.0."""
    return {name: type(value) for name, value in attributes.items()}
