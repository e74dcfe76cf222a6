"""README: short, its first screen complete, and its way in works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from otel_canonical.event import logfmt
from tests.support.documents import console_commands, start_line, start_project
from tests.support.environments import INSTRUMENT
from tests.support.live import otel_canonical
from tests.support.peers.tools import REPOSITORY
from tests.support.servers import GUNICORN, gunicorn

README = (REPOSITORY / "README.md").read_text()
COMMANDS = console_commands("README.md")
MOST_LINES = 220
FIRST_SCREEN = 45
MOST_PICTURE_BYTES = 300_000


def test_it_is_short_and_its_first_screen_says_all() -> None:
    """What is missing without it, the line, how to install, how to look."""
    rows = README.splitlines()
    assert len(rows) <= MOST_LINES
    first = "\n".join(rows[:FIRST_SCREEN])
    for part in ("access log", "<!-- line -->", "pip install otel-canonical"):
        assert part in first
    for part in ("opentelemetry-instrument gunicorn", "`make demo`", "`make test`"):
        assert part in first


def test_first_line_has_location_that_story_tells() -> None:
    """The story of the N+1 begins with the location that the line shows."""
    rows = re.findall(r"<!-- line -->\n```text\n(.*?)\n```", README, re.DOTALL)[0]
    location = logfmt.parse(" ".join(rows.splitlines()))["db_n1_loc"]
    assert f"`{location.partition(' < ')[0]}` is the line to change" in README


def test_pictures_are_small() -> None:
    """A page that is read on a phone."""
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert "docs/pictures/report.png" in pictures
    assert all((REPOSITORY / path).stat().st_size < MOST_PICTURE_BYTES for path in pictures)


def test_installed_extras_exist() -> None:
    """Every `pip install` names this package, and extras that it has."""
    extras = set(
        re.findall(r"^(\w+) = \[", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    )
    installs = [command for command in COMMANDS if command.startswith("pip install")]
    assert len(installs) >= 2
    for command in installs:
        [named] = re.findall(r"pip install '?otel-canonical(?:\[([\w,]+)\])?'?$", command)
        assert set(filter(None, named.split(","))) <= extras


def test_way_in_works(tmp_path: Path) -> None:
    """The start line serves a fresh project, curl's request has a line, and `ps` shows the pool."""
    start_project(tmp_path)
    assert COMMANDS[0] == "pip install otel-canonical"
    _, command, arguments, application = start_line(COMMANDS[1])
    assert command == ["opentelemetry-instrument", "gunicorn"]
    curl, url = COMMANDS[2].split()
    assert (curl, url) == ("curl", "localhost:8000/")
    assert f"{COMMANDS[1]} > lines.log" in COMMANDS
    programs = [INSTRUMENT[0], GUNICORN[0]]
    with gunicorn(application, tmp_path, *arguments, command=programs, cwd=tmp_path) as server:
        _, line = server.ask("/")
        [ps] = [command for command in COMMANDS if command.startswith("otel-canonical ps")]
        shown = otel_canonical(*ps.split()[1:], str(server.pid))
    assert line["resp_status"] == "200"
    assert f"pid {server.pid}" in shown.stdout
    # The columns are those that README shows.
    heads = re.findall(r"^ +AGE +WORKER +REQUEST.*$", README, re.MULTILINE)
    assert [head.split() for head in heads] == [
        ["AGE", "WORKER", "REQUEST", "ROUTE", "QUERIES", "LAST"]
    ]
