"""`otel-canonical tail` as people use it: in a terminal, in a pipe, on files that are rotated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_canonical.event import logfmt
from otel_canonical.reading.screen import cells
from otel_canonical.reading.wording import duration
from tests.support.reading import (
    COMMAND,
    PATIENCE_S,
    SAMPLE,
    run,
    terminal,
    without_colours,
)
from tests.support.servers import Line, eventually, gunicorn

LINE = "ts=2026-11-26T16:20:37.262Z event_type=request req_method=GET req_path={} resp_status={} resp_time=0.5\n"
TRACEBACK = b"Traceback (most recent call last):\n\t\x1b[31mred\x1b[0m \xff\n"


#: Of the sample: the first line, the one of the list of products, the last.
SAMPLED = [logfmt.parse(line) for line in SAMPLE.read_text().splitlines()]
FIRST, LAST = SAMPLED[0], SAMPLED[-1]
PRODUCTS = next(line for line in SAMPLED if line.get("req_route") == "products/")


def time_of(line: Line) -> str:
    """Return a line's time of day, as `tail` shows it."""
    return line["ts"][11:-1]


@pytest.mark.parametrize("columns", [80, 200])
def test_fills_a_real_terminal(columns: int) -> None:
    """In tmux: coloured, folded, times at the right margin, nothing wrapped by the terminal itself."""
    with terminal(columns, 90, COMMAND, "tail", str(SAMPLE)) as screen:
        shown = eventually(lambda: s if time_of(LAST) in (s := screen()) else "", screen)
    rows = without_colours(shown)
    products = next(row for row in rows if "GET /products/ " in row)
    assert products.startswith(f"{time_of(PRODUCTS)}  200  GET /products/")
    assert products.endswith(f"  {duration(float(PRODUCTS['resp_time']))}")
    assert cells(products) == columns
    timeout = next(index for index, row in enumerate(rows) if "timeout 6." in row)
    assert rows[timeout + 1].strip().startswith("stuck at catalog/warehouse.py:12:wait_for_stock")
    # Every row begins a line or stands under the method: none was wrapped.
    hour = FIRST["ts"][11:13]
    assert all(row[:2] == hour or row[:14] == " " * 14 for row in rows if row)
    # Green for what went well, bold red for what failed.
    assert re.search("\x1b\\[32m(\x1b\\[49m)?200", shown)
    assert re.search("1m\x1b\\[31m(\x1b\\[49m)?500", shown)


def test_no_control_character_gets_to_a_terminal(tmp_path: Path) -> None:
    """Neither from a value nor from a foreign line; the screen is intact and says what was there."""
    hostile = r'"/\u001b[2J\u009b2J\u202e\r\n"'
    path = tmp_path / "lines.log"
    lines = SAMPLE.read_text() + LINE.format(hostile, 200) + "\x1b[2Jforeign\a\x9b\n"
    path.write_text(lines, encoding="utf-8")
    with terminal(80, 90, COMMAND, "tail", str(path)) as screen:
        shown = eventually(lambda: s if "foreign" in (s := screen()) else "", screen)
    rows = without_colours(shown)
    assert rows[0].startswith(f"{time_of(FIRST)}  200  GET /")
    assert any(r"GET /\u001b[2J\u009b2J\u202e\r\n" in row for row in rows)
    assert any(r"\u001b[2Jforeign\u0007" in row for row in rows)


def test_a_pipe_gets_plain_text_and_foreign_lines_untouched() -> None:
    """No colour, nothing folded; bytes of foreign lines as they were, filters or not."""
    done = subprocess.run(
        [COMMAND, "tail", "--status", "5xx"],
        input=LINE.format("/a", 200).encode()
        + TRACEBACK
        + LINE.format("/b", 503).encode()
        + b"end",
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout == TRACEBACK + b"16:20:37.262  503  GET /b  500 ms\nend\n"
    only = run("tail", "--no-foreign", stdin=TRACEBACK + LINE.format("/b", 503).encode())
    assert only.stdout == "16:20:37.262  503  GET /b  500 ms\n"


def test_works_without_rich_and_loads_no_database() -> None:
    """The base install is enough, also on a terminal; DuckDB is never imported."""
    program = (
        "import sys; sys.modules['rich'] = sys.modules['duckdb'] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'rich' else found(name, *rest)\n"
        "from otel_canonical.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", program, "tail", "--color", "always", str(SAMPLE)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert f"{time_of(PRODUCTS)}  200  GET /products/" in done.stdout
    assert "\x1b" not in done.stdout
    code = "import sys; from otel_canonical.cli import main; main(['tail', sys.argv[1]]); print(*sys.modules)"
    loaded = run_python(code, str(SAMPLE)).split("\n")[-2].split()
    assert not {"duckdb", "matplotlib", "numpy"} & set(loaded)


def run_python(code: str, *arguments: str) -> str:
    """Return what a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout


def test_last_lines_and_changes_of_day(tmp_path: Path) -> None:
    """`-n` begins before the end; a new day is a row of its own."""
    path = tmp_path / "lines.log"
    lines = [LINE.format(f"/{number}", 200) for number in range(20)]
    path.write_text("".join(lines) + lines[0].replace("-26T", "-27T"))
    assert run("tail", "-n", "2", path).stdout == (
        "16:20:37.262  200  GET /19  500 ms\n2026-11-27\n16:20:37.262  200  GET /0  500 ms\n"
    )
    assert run("tail", "-n", "0", path).stdout == ""
    assert run("tail", "-n", "-1", path).returncode == 2


@pytest.fixture(name="followed")
def follow(tmp_path: Path) -> object:
    """A `tail -f` of a file, and what it has said so far."""
    path, out = tmp_path / "lines.log", tmp_path / "out"
    path.write_text("".join(LINE.format(f"/old-{number}", 200) for number in range(30)))
    with out.open("wb") as stdout:
        process = subprocess.Popen([COMMAND, "tail", "-f", str(path)], stdout=stdout)
    try:
        yield path, out
    finally:
        process.kill()
        process.wait()


def paths_shown(out: Path) -> list[str]:
    """Return the paths of the requests that were shown."""
    return [row.split()[3] for row in out.read_text().splitlines()]


def until(out: Path, last: str) -> list[str]:
    """Return the paths that were shown once the last of them is there."""
    eventually(lambda: last in paths_shown(out), out.read_text)
    return paths_shown(out)


def test_follows_across_rotation(followed: tuple[Path, Path]) -> None:
    """Renamed and made anew, cut short, missing for a while: each line is shown once, in order."""
    path, out = followed
    expected = [f"/old-{number}" for number in range(20, 30)]
    assert until(out, "/old-29") == expected
    with path.open("a") as writer:
        writer.write(LINE.format("/a", 200)[:30])
        writer.flush()
        writer.write(LINE.format("/a", 200)[30:])
        writer.flush()
        assert until(out, "/a") == [*expected, "/a"]
        path.rename(path.with_suffix(".1"))
        # The server writes into the renamed file until it is told.
        writer.write(LINE.format("/late", 200))
    path.write_text(LINE.format("/b", 200))
    assert until(out, "/b") == [*expected, "/a", "/late", "/b"]
    path.unlink()
    path.write_text(LINE.format("/c", 200) + LINE.format("/d", 200))
    assert until(out, "/d")[-2:] == ["/c", "/d"]
    os.truncate(path, 0)
    with path.open("a") as writer:
        writer.write(LINE.format("/e", 200))
    assert until(out, "/e")[-3:] == ["/c", "/d", "/e"]


def test_shows_a_server_live(tmp_path: Path) -> None:
    """`gunicorn | otel-canonical tail -`: a line is there as soon as its request is over."""
    with gunicorn("every_kind", tmp_path) as site:
        source, out = site.stdout, tmp_path / "out"
        with out.open("wb") as stdout:
            feed = subprocess.Popen(["tail", "-F", str(source)], stdout=subprocess.PIPE)
            shown = subprocess.Popen([COMMAND, "tail", "-"], stdin=feed.stdout, stdout=stdout)
        try:
            site.get("/raises/")
            seen: Callable[[], bool] = lambda: "GET /raises/" in out.read_text()  # noqa: E731
            eventually(seen, out.read_text)
            assert "Error: Oh noes!" in out.read_text()
        finally:
            feed.kill()
            shown.wait(PATIENCE_S)
            feed.communicate()


def test_usage_errors_are_said_in_a_sentence(tmp_path: Path) -> None:
    """Exit code 2, nothing on stdout, no traceback."""
    for arguments in (
        ["tail", str(tmp_path / "missing")],
        ["tail", "--status", "5x"],
        [],
        ["nonsense"],
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert "Traceback" not in done.stderr
        assert done.stderr
    assert "otel-canonical tail: error" in run("tail", "--status", "5x").stderr
