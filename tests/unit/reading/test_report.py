"""The report: its numbers are those of an exact computation, its sentences name what matters."""

from __future__ import annotations

import datetime
import math
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from benchmarks.make_lines import lines as made_lines
from otel_canonical.event import logfmt
from otel_canonical.event.fields import FieldValue
from otel_canonical.reading.events import load
from otel_canonical.reading.problems import CommandFailed
from otel_canonical.reading.report_contents import Report, contents
from otel_canonical.reading.report_scope import KEYS, Limits, Scope, moment
from otel_canonical.reading.sections import Section
from tests.support.reading import hostile_text, run, write_lines

LINES = 3000
ENDINGS = ("request", "timeout", "lost")
DATABASE = ("db_time", "db_fetch_time", "db_connect_time", "db_txn_time")

Line = dict[str, str]


@pytest.fixture(scope="module", name="mixed")
def mixed_lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of mixed traffic, foreign lines between, with hostile routes, places and messages."""
    rng = random.Random(3)
    path = tmp_path_factory.mktemp("report") / "lines.log"
    with path.open("w", encoding="utf-8") as file:
        for line in made_lines(LINES, seed=3):
            if line.startswith("ts=") and rng.random() < 0.1:
                fields: dict[str, FieldValue] = {**logfmt.parse(line)}
                for key in ("req_route", "exc_msg", "db_n1_loc", "exc_cause_loc"):
                    if key in fields:
                        fields[key] = f'{fields[key]} a="b c" = {hostile_text(rng)!a}'
                line = logfmt.encode(fields.items()) + "\n"
            file.write(line)
    return path


@pytest.fixture(scope="module", name="report")
def made_report(mixed: Path) -> Iterator[Report]:
    """The report about it."""
    with load([str(mixed)], KEYS) as events:
        yield contents(Scope(events, Limits()), 12)


@pytest.fixture(scope="module", name="parsed")
def parsed_lines(mixed: Path) -> list[Line]:
    """The same lines, read by the parser of the package."""
    return [
        logfmt.parse(line)
        for line in mixed.read_text(encoding="utf-8").split("\n")
        if line.startswith("ts=")
    ]


def section(report: Report, name: str) -> Section:
    """Return a section by name."""
    return next(found for found in report.sections if found.name == name)


def number(line: Line, *keys: str) -> float:
    """Return the sum of what is there of some keys."""
    return sum(float(line[key]) for key in keys if key in line)


def quantile(values: list[float], q: float) -> float:
    """Return a quantile, between two values on the line between them."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * q
    low, high = ordered[math.floor(at)], ordered[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))


def endings_by(parsed: list[Line], key: str) -> dict[str, list[Line]]:
    """Return the lines that end a request, by one of their values."""
    found: defaultdict[str, list[Line]] = defaultdict(list)
    for line in parsed:
        if line["event_type"] in ENDINGS:
            found[line.get(key, "(no route)")].append(line)
    return found


def same(found: Any, expected: Any) -> bool:
    """Return whether two values are the same, sums of numbers up to their rounding."""
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return bool(found == expected)


def failed(line: Line) -> bool:
    """Return whether a request failed."""
    return line["event_type"] != "request" or int(line.get("resp_status", 0)) >= 500


def test_routes_are_exact(report: Report, parsed: list[Line]) -> None:
    """Requests, total time, percentiles, shares and failures of every route, the dearest first."""
    expected = []
    for route, lines in endings_by(parsed, "req_route").items():
        times = [float(line["resp_time"]) for line in lines]
        total = sum(times)
        row: list[Any] = [
            route,
            len(lines),
            total,
            *[quantile(times, q) for q in (0.5, 0.95, 0.99)],
        ]
        row.append(sum(number(line, *DATABASE) for line in lines) / total)
        row.append(
            sum(
                number(line, "db_n1_time")
                if "db_n1_time" in line
                else number(line, "db_dup_time") * (number(line, "db_dup_queries") >= 5)
                for line in lines
            )
            / total
        )
        row.append(
            sum(
                number(line, "tpl_self_time" if "tpl_self_time" in line else "tpl_time")
                for line in lines
            )
            / total
        )
        row += [
            sum(number(line, key) for line in lines) / total
            for key in ("http_time", "resp_cpu_wait")
        ]
        expected.append([*row, sum(map(failed, lines))])
    expected.sort(key=lambda row: (-row[2], row[0]))
    rows = section(report, "routes").rows
    assert len(rows) == len(expected) > 30
    for found, wanted in zip(rows, expected, strict=True):
        assert all(same(*pair) for pair in zip(found, wanted, strict=True)), (found, wanted)


def test_places_add_up_to_the_time(report: Report, parsed: list[Line]) -> None:
    """Each route's places are the sums of its lines' and together its whole time."""
    found = section(report, "places")
    names = [column.title for column in found.columns]
    by_route = endings_by(parsed, "req_route")
    for row in found.rows:
        values = dict(zip(names, row, strict=True))
        lines = by_route[values["route"]]
        assert same(values["database"], float(sum(number(line, *DATABASE) for line in lines)))
        assert same(values["view"], float(sum(number(line, "view_time") for line in lines)))
        assert same(values["blocked"], float(sum(number(line, "resp_blocked") for line in lines)))
        together = sum(row[2 : 2 + 10])
        assert abs(together - values["total"]) <= 0.01 * values["total"] + 0.001


def test_traffic_over_time_is_exact(report: Report, parsed: list[Line]) -> None:
    """Each part of the time has its outcomes and percentiles; none is missing, none counted twice."""
    found = section(report, "traffic")
    expected: defaultdict[datetime.datetime, list[Line]] = defaultdict(list)
    for lines in endings_by(parsed, "req_route").values():
        for line in lines:
            at = datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")).replace(
                tzinfo=None
            )
            expected[at.replace(minute=at.minute // 30 * 30, second=0, microsecond=0)].append(line)
    assert [row[0] for row in found.rows] == sorted(expected)
    for at, requests, ok, errors4, errors5, timeouts, lost, *percentiles in found.rows:
        lines = expected[at]
        types = Counter(line["event_type"] for line in lines)
        statuses = Counter(
            line.get("resp_status", "0")[0] for line in lines if line["event_type"] == "request"
        )
        assert requests == len(lines) == ok + errors4 + errors5 + timeouts + lost
        assert (errors4, errors5) == (statuses["4"], statuses["5"])
        assert (timeouts, lost) == (types["timeout"], types["lost"])
        times = [float(line["resp_time"]) for line in lines]
        assert all(
            same(value, quantile(times, q))
            for value, q in zip(percentiles, (0.5, 0.95, 0.99), strict=True)
        )


def test_repeated_queries_are_exact(report: Report, parsed: list[Line]) -> None:
    """By query and place: requests, runs of each, time."""
    groups: defaultdict[tuple[str, str], list[Line]] = defaultdict(list)
    for lines in endings_by(parsed, "req_route").values():
        for line in lines:
            if "db_n1" in line:
                groups[line["db_n1_loc"], line["db_n1"]].append(line)
    found = {
        (row[0], row[2]): row[3:]
        for row in section(report, "n1").rows
        if not row[2].startswith("(")
    }
    assert found.keys() == groups.keys()
    for key, lines in groups.items():
        runs = quantile([float(line["db_n1_count"]) for line in lines], 0.5)
        spent = sum(float(line["db_n1_time"]) for line in lines)
        assert all(same(*pair) for pair in zip(found[key], (len(lines), runs, spent), strict=True))


def test_exceptions_are_exact(report: Report, parsed: list[Line]) -> None:
    """By class and place: failed, survived and all, and when first and last."""
    groups: defaultdict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in parsed:
        if "exc_type" in line:
            groups[line["exc_type"], line["exc_cause_loc"]].append(line)
    found = {(row[0], row[1]): row for row in section(report, "exceptions").rows}
    assert found.keys() == groups.keys()
    for key, lines in groups.items():
        survived = sum(line["event_type"] == "partial_failure" for line in lines)
        failures = sum(
            line["event_type"] != "partial_failure" and int(line["resp_status"]) >= 500
            for line in lines
        )
        assert found[key][3:6] == (failures, survived, len(lines))
        assert f"{found[key][6]:%H:%M:%S}" == lines[0]["ts"][11:19]
        assert f"{found[key][7]:%H:%M:%S}" == lines[-1]["ts"][11:19]


def test_saturation_memory_and_clients_are_exact(report: Report, parsed: list[Line]) -> None:
    """How full the pool was at most and on average; bytes grown; clients that left."""
    saturation = section(report, "saturation")
    shares = [
        int(line["g_t_active"]) / int(line["g_t_count"])
        if "g_t_count" in line
        else int(line["g_w_active"]) / int(line["g_w_count"])
        for line in parsed
        if "g_w_count" in line
    ]
    assert same(max(saturation.values("busy, most")), max(shares))
    assert max(saturation.values("backlog, most")) == max(
        int(line["g_backlog"]) for line in parsed if "g_backlog" in line
    )
    grown = section(report, "memory").values("grown")
    assert sum(grown) == sum(number(line, "mem_growth") for line in parsed)
    gone = section(report, "gone").values("clients gone")
    assert sum(gone) == sum("client_gone" in line for line in parsed)
    heat = section(report, "heat")
    assert sum(sum(row[1:]) for row in heat.rows) == sum(
        line["event_type"] in ENDINGS for line in parsed
    )


def event(second: int, route: str, **fields: FieldValue) -> dict[str, FieldValue]:
    """Return a request as its line says it."""
    at = datetime.datetime(2026, 11, 26, 10) + datetime.timedelta(seconds=second)  # noqa: DTZ001
    return {
        "ts": f"{at:%Y-%m-%dT%H:%M:%S}.000Z",
        "event_type": "request",
        "req_route": route,
        "resp_status": 200,
        "resp_time": 0.01,
        **fields,
    }


def report_of(path: Path) -> Report:
    """Return the report about a file."""
    with load([str(path)], KEYS) as events:
        return contents(Scope(events, Limits()), 12)


def test_where_to_look_first_names_what_would_go_away(tmp_path: Path) -> None:
    """N+1 by its time, a slow query, failures that began, stuck places, what fills the pool."""
    loop: dict[str, FieldValue] = {
        "db_n1": "SELECT … FROM price WHERE id = ?",
        "db_n1_count": 80,
        "db_n1_time": 0.04,
        "db_n1_loc": "catalog/views.py:42:products",
    }
    stuck: dict[str, FieldValue] = {
        "event_type": "timeout",
        "resp_time": 3.0,
        "timeout_cause_loc": "catalog/warehouse.py:12:wait",
        "g_open": "3*reports/ 1*ok/",
    }
    slow: dict[str, FieldValue] = {
        "db_slowest": "SELECT slow",
        "db_slowest_time": 0.25,
        "db_slowest_loc": "a.py:1:f",
    }
    failing: dict[str, FieldValue] = {
        "resp_status": 500,
        "exc_type": "NoRate",
        "exc_cause_loc": "loyalty.py:20:rate_of",
    }
    events = [event(second, "ok/") for second in range(1000)]
    events += [event(second, "products/", resp_time=0.06, **loop) for second in range(400)]
    events += [event(second * 100, "slow/", **stuck) for second in range(9)]
    events += [event(second, "search/", resp_time=0.3, **slow) for second in range(50)]
    events += [event(600 + second, "checkout/", **failing) for second in range(300)]
    report = report_of(write_lines(tmp_path / "lines.log", events))
    total = sum(float(str(one["resp_time"])) for one in events)
    assert f"{100 * 400 * 0.04 * 79 / 80 / total:.0f} % of all time is N+1" in report.first[0]
    assert report.first[0].endswith(
        "SELECT … FROM price WHERE id = ? at catalog/views.py:42:products "
        "(products/, 400 requests, 80 each)"
    )
    assert set(report.first[1:]) == {
        f"{100 * 50 * 0.25 / total:.0f} % of all time is one query: SELECT slow at a.py:1:f "
        "(search/, 50 requests, 250 ms each)",
        "checkout/ fails since 10:10: NoRate at loyalty.py:20:rate_of (300 requests)",
        "9 of 9 timeouts at catalog/warehouse.py:12:wait (slow/)",
        "reports/ fills the pool: open on 100 % of all late requests",
    }


def test_nothing_stands_out_where_nothing_does(tmp_path: Path) -> None:
    """Ordinary traffic has no sentence, and the report says so."""
    path = write_lines(tmp_path / "lines.log", [event(second, "ok/") for second in range(50)])
    assert report_of(path).first == []
    assert "nothing stands out" in run("report", path).stdout


def test_limits_of_time_and_route(tmp_path: Path) -> None:
    """`--since`, `--until` and `--route` choose what counts; what chooses nothing says so."""
    events = [event(60 * minute, f"r{minute % 2}/x_[1]/") for minute in range(120)]
    path = write_lines(tmp_path / "lines.log", events)
    for arguments, requests in (
        ([], 120),
        (["--since", "11:00"], 60),
        (["--since", "30m"], 31),
        (["--since", "2026-11-26T10:10:00Z", "--until", "2026-11-26T12:20:00+02:00"], 11),
        (["--route", "r1/x_[1]/"], 60),
        (["--route", "r*"], 120),
        (["--route", "r1*", "--until", "10:09"], 5),
    ):
        done = run("report", *arguments, path)
        assert done.stdout.startswith(f"{requests} requests"), (arguments, done)
    for arguments in (
        ["--route", "r%"],
        ["--since", "2027-01-01"],
        ["--since", "soon"],
        ["--top", "0"],
    ):
        done = run("report", *arguments, path)
        assert (done.returncode, done.stdout) == (2, ""), arguments


def test_a_time_of_day_is_the_last_that_was() -> None:
    """In a file that ends at 10:00, `23:00` is the evening before."""
    last = datetime.datetime(2026, 11, 26, 10)  # noqa: DTZ001
    assert moment("23:00", last) == datetime.datetime(2026, 11, 25, 23)  # noqa: DTZ001
    assert moment("9:30", last) == datetime.datetime(2026, 11, 26, 9, 30)  # noqa: DTZ001
    assert moment("1d", last) == datetime.datetime(2026, 11, 25, 10)  # noqa: DTZ001
    with pytest.raises(CommandFailed, match="no time"):
        moment("25:00", last)


def test_lines_without_the_newer_fields_have_a_report(tmp_path: Path) -> None:
    """Of repeated queries that aren't named the view is told; time without places isn't told apart."""
    old: dict[str, FieldValue] = {
        "db_queries": 81,
        "db_time": 0.002,
        "db_dup_queries": 80,
        "db_dup_time": 0.0015,
        "resp_view": "catalog.views.products",
        "tpl_time": 0.005,
    }
    path = write_lines(tmp_path / "lines.log", [event(n, "products/", **old) for n in range(20)])
    report = report_of(path)
    (row,) = section(report, "n1").rows
    assert row[:5] == ("catalog.views.products", "products/", "(not named on these lines)", 20, 80)
    (place,) = section(report, "places").rows
    assert math.isclose(section(report, "places").values("not told apart")[0], 20 * 0.008)
    assert place[1] == pytest.approx(0.2)


def test_a_foreign_file_is_no_report(tmp_path: Path) -> None:
    """Exit code 2 and a sentence, for empty files as well."""
    path = tmp_path / "other.log"
    for text in ("", "hello\n", "ts=1 level=info\n"):
        path.write_text(text)
        done = run("report", path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "no canonical lines" in done.stderr


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [("duckdb", []), ("matplotlib", ["--html", "page.html"]), ("zstandard", [])],
)
def test_a_missing_library_is_named_with_its_extra(
    missing: str, arguments: list[str], tmp_path: Path
) -> None:
    """Exit code 2 and the command that installs it; no traceback."""
    path = write_lines(tmp_path / "lines.log", [event(1, "ok/")])
    if missing == "zstandard":
        path.write_bytes(zstandard.compress(path.read_bytes()))
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from otel_canonical.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "report", *arguments, str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"this needs {missing}, which is not installed" in done.stderr
    assert done.stderr.endswith("pip install 'otel-canonical[report]'\n")
    assert done.stderr.count("\n") == 1
