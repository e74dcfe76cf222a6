"""The commands that documents show, and a directory with the files that they name."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.make_lines import lines as made_lines
from tests.support.environments import clean_environment
from tests.support.peers.tools import REPOSITORY
from tests.support.reading import COMMAND, PATIENCE_S, SAMPLE

#: Stands in front of a block whose commands need nothing but a file of lines.
_FILE = "<!-- file -->\n"
_BLOCK = re.compile(r"((?:<!-- file -->\n)?)```console\n(.*?)```", re.DOTALL)


def console_commands(document: str) -> list[str]:
    """Return the commands of every block with a prompt."""
    text = (REPOSITORY / document).read_text()
    return [command for _, block in _BLOCK.findall(text) for command in _prompted(block)]


def file_commands(document: str) -> list[str]:
    """Return the commands that read files of lines; the installations between them are left out."""
    text = (REPOSITORY / document).read_text()
    return [
        command
        for mark, block in _BLOCK.findall(text)
        if mark == _FILE
        for command in _prompted(block)
        if not command.startswith("pip install")
    ]


def marked(document: str, mark: str) -> str:
    """Return the block behind `<!-- mark -->`."""
    text = (REPOSITORY / document).read_text()
    [found] = re.findall(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    return str(found)


def _prompted(block: str) -> list[str]:
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


def fill_with_lines(directory: Path) -> None:
    """Make the files that documents name: today's lines, those before a deploy, and rotated ones."""
    # The sample has one of each kind; what ends badly is rare among so few made lines.
    # Its `pool` lines count what was before them in their own file.
    sample = SAMPLE.read_text().splitlines(keepends=True)
    more = [line for line in sample if " event_type=pool " not in line]
    (directory / "lines.log").write_text("".join([*made_lines(3000, seed=1), *more]))
    (directory / "before.log").write_text("".join(made_lines(3000, seed=2)))
    with gzip.open(directory / "lines.log.1.gz", "wt", encoding="utf-8") as file:
        file.writelines(made_lines(500, seed=3))


def check_file_command(command: str, directory: Path) -> None:
    """Run it as a person would: it exits with 0, says something, and nothing on stderr."""
    path = os.pathsep.join((str(Path(COMMAND).parent), os.environ.get("PATH", os.defpath)))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PATH": path},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    written = re.search(r"--html (\S+)|TO '([^']+)'", command)
    if written:
        assert (directory / (written[1] or written[2])).stat().st_size > 1000
    else:
        assert len(done.stdout.splitlines()) >= 2


def start_project(directory: Path) -> None:
    """Make `mysite` as Django does, with its ASGI and WSGI applications."""
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "mysite", directory],
        check=True,
        env=clean_environment(directory, {}),
    )


def start_line(text: str) -> tuple[dict[str, str], list[str], list[str], str]:
    """Return variables, command, Gunicorn's arguments and the application of a start line."""
    words = shlex.split(text)
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    at = next(number for number, word in enumerate(words) if Path(word).name == "gunicorn") + 1
    return variables, words[:at], words[at:-1], words[-1]
