"""`check` on files that were spoilt in many ways: each is found, and nothing in a file that wasn't."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.make_lines import lines as made_lines
from otel_canonical.event import json_lines, logfmt
from otel_canonical.reading import check, file_checks, line_checks
from tests.support.reading import run

COUNT = 600
REQUEST = " event_type=request "


@pytest.fixture(scope="module", name="good")
def good_lines() -> list[str]:
    """Lines that keep the promise, with `pool` lines and foreign ones between them."""
    return [line for line in made_lines(COUNT, seed=11) if not line.startswith("  ")]


def change(pattern: str, by: str, must: str = REQUEST) -> Callable[[list[str]], None]:
    """Return a way to spoil the last line that has both."""

    def spoil(lines: list[str]) -> None:
        # The last one: what a first `pool` line counts was before the file.
        index = max(n for n, line in enumerate(lines) if must in line and re.search(pattern, line))
        lines[index] = re.sub(pattern, by, lines[index], count=1)

    return spoil


def at_request(act: Callable[[list[str], int], None]) -> Callable[[list[str]], None]:
    """Return a way to spoil a request's line in the middle of the file."""

    def spoil(lines: list[str]) -> None:
        pools = [n for n, line in enumerate(lines) if " event_type=pool " in line]
        act(lines, next(n for n in range(pools[0] + 1, len(lines)) if REQUEST in lines[n]))

    return spoil


def _double(lines: list[str], index: int) -> None:
    lines.insert(index + 5, lines[index])


def _second_ending(lines: list[str], index: int) -> None:
    fields = logfmt.parse(lines[index])
    fields |= {"event_type": "lost", "lost_cause": "SIGKILL"}
    lines.insert(index + 1, logfmt.encode(fields.items()) + "\n")


def _cut(lines: list[str], index: int) -> None:
    lines[index] = lines[index][: len(lines[index]) // 2] + "\n"


def _merge(lines: list[str], index: int) -> None:
    lines[index] = lines[index][: len(lines[index]) // 2]


def _behead(lines: list[str], index: int) -> None:
    lines[index] = lines[index][len(lines[index]) // 2 :]


def _prefix(lines: list[str], index: int) -> None:
    lines[index] = "printed by the app" + lines[index]


def _delete(lines: list[str], index: int) -> None:
    del lines[index]


def _end(lines: list[str], index: int) -> None:
    del lines[index + 1 :]
    lines[-1] = lines[-1][:-1]


def _move_back(lines: list[str], index: int) -> None:
    lines[index] = lines[index].replace("2026-11-26T1", "2026-11-25T1", 1)


def _add_failure(lines: list[str]) -> None:
    first = next(line for line in lines if REQUEST in line)
    failure = first.replace(REQUEST, " event_type=partial_failure exc_type=E ")
    lines.insert(1, re.sub(r"req_id=[^ \n]*", "req_id=other", failure))


SPOILT: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "a line twice": (at_request(_double), file_checks.DOUBLED),
    "a request that is lost as well": (at_request(_second_ending), file_checks.DOUBLED),
    "a line cut in the middle": (at_request(_cut), ""),
    "two lines in one": (at_request(_merge), line_checks.TORN),
    "a line without its head": (at_request(_behead), line_checks.TORN),
    "text in front of a line": (at_request(_prefix), line_checks.TORN),
    "a line that is missing": (at_request(_delete), file_checks.NOT_RECONCILED),
    "a file that ends in a line": (at_request(_end), line_checks.TORN),
    "a day that goes back": (at_request(_move_back), file_checks.BACKWARDS),
    "an open quote": (change('"( [a-z_]+=)', r"\1"), line_checks.TORN),
    "a raw quote inside": (change(r'\\"', '"'), line_checks.TORN),
    "a key twice": (change("( resp_status=)", r" resp_status=200\1"), line_checks.TORN),
    "a negative duration": (change("resp_time=", "resp_time=-"), line_checks.NOT_SANE),
    "a first byte after the last": (
        change(r"resp_ttfb=[\d.]+", "resp_ttfb=99.5"),
        line_checks.NOT_SANE,
    ),
    "a status that there isn't": (
        change(r"resp_status=\d+", "resp_status=999"),
        line_checks.NOT_SANE,
    ),
    "more busy than there are": (change(r"g_t_active=\d+", "g_t_active=99"), line_checks.NOT_SANE),
    "a word for a number": (change(r"resp_time=\d", "resp_time=x"), line_checks.NO_NUMBER),
    "a moment that is none": (change("ts=2026-11", "ts=2026-13"), line_checks.NO_NUMBER),
    "an unknown type": (change("event_type=request", "event_type=reqest"), line_checks.UNKNOWN),
    "no id": (change(" req_id=[^ ]*", ""), line_checks.INCOMPLETE),
    "places that don't add up": (change(r"view_time=[\d.]+", "view_time=9.5"), line_checks.NO_SUM),
    "another count": (
        change(r"g_lines_request=(\d+)", r"g_lines_request=1\1", " event_type=pool "),
        file_checks.NOT_RECONCILED,
    ),
    "lines that were dropped": (
        change(r"( g_lines_request=)", r" g_lines_dropped=3\1", " event_type=pool "),
        file_checks.DROPPED,
    ),
    "a failure without its request": (
        _add_failure,
        file_checks.OPEN,
    ),
}


def checked(path: Path, lines: list[str]) -> tuple[int, str]:
    """Write lines and return the exit code and output of `check`."""
    path.write_text("".join(lines), encoding="utf-8")
    done = run("check", path)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_good_file_has_no_fault(good: list[str], tmp_path: Path) -> None:
    """Exit code 0; requests are counted, foreign lines as well, and are no fault."""
    traceback = ["Traceback (most recent call last):\n", '  File "x.py"\n', "\n"]
    code, out = checked(tmp_path / "lines.log", [*traceback, *good, *traceback])
    assert code == 0, out
    requests = sum(" event_type=request " in line for line in good)
    assert out.startswith(f"{requests} request, ")
    assert f"; {4 + sum(not line.startswith('ts=') for line in good)} foreign" in out
    assert "note:" not in out
    assert "every line is whole" in out


@pytest.mark.parametrize("how", SPOILT)
def test_each_way_to_spoil_a_file_is_found(how: str, good: list[str], tmp_path: Path) -> None:
    """Exit code 1, the kind of fault, and the line with its number."""
    spoil, kind = SPOILT[how]
    lines = [*good]
    spoil(lines)
    assert lines != good
    code, out = checked(tmp_path / "lines.log", lines)
    assert code == check.FAULTY, out
    assert kind in out
    assert re.search(r"lines\.log:\d+: ", out)
    assert re.search(r"\d+ faults?$", out.strip())


def test_json_is_checked_as_well(good: list[str], tmp_path: Path) -> None:
    """The same promises under the other encoder, a torn object among them."""
    objects = [
        json_lines.encode(logfmt.parse(line).items()) + "\n"
        for line in good
        if line.startswith("ts=")
    ]
    assert checked(tmp_path / "lines.log", objects)[0] == 0
    code, out = checked(tmp_path / "lines.log", [*objects, objects[5][:100] + "\n", objects[7]])
    assert code == check.FAULTY
    assert line_checks.TORN in out
    assert file_checks.DOUBLED in out


def test_an_id_that_a_client_sends_again_is_no_fault(tmp_path: Path) -> None:
    """Proxies retry with the id that they gave; another worker and another start are another request."""
    line = (
        "ts=2026-11-26T10:00:0{}.000Z event_type=request req_id=abc resp_status=502 resp_time=0.01 "
        "g_pid={} g_w_requests={}\n"
    )
    code, out = checked(tmp_path / "lines.log", [line.format(1, 10, 5), line.format(1, 11, 5)])
    assert code == 0, out
    assert "note: 1 id sent again" in out
    code, out = checked(tmp_path / "lines.log", [line.format(1, 10, 5), line.format(4, 10, 6)])
    assert code == 0, out
    code, out = checked(tmp_path / "lines.log", [line.format(1, 10, 5), line.format(1, 10, 5)])
    assert code == 1, out


def test_requests_between_others_without_a_line_are_noted(tmp_path: Path) -> None:
    """A worker counts its requests: a number that no line has is told, but may be an excluded URL."""
    line = (
        "ts=2026-11-26T10:00:00.000Z event_type=request req_id={} resp_status=200 resp_time=0.01 "
        "g_pid=10 g_w_requests={}\n"
    )
    lines = [line.format(n, n) for n in (5, 6, 9)]
    code, out = checked(tmp_path / "lines.log", lines)
    assert code == 0
    assert "note: 2 requests between others of a worker without a line" in out


def test_random_bytes_are_no_crash(good: list[str], tmp_path: Path) -> None:
    """Whatever was done to a file, the answer is an exit code and a report, never a traceback."""
    rng = random.Random(5)
    data = bytearray("".join(good[:60]).encode())
    for _ in range(300):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path = tmp_path / "lines.log"
    path.write_bytes(bytes(data))
    done = run("check", path)
    assert (done.returncode, done.stderr) == (1, "")
    assert all(char.isprintable() or char == "\n" for char in done.stdout)
