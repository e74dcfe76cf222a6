"""docs/READING.md: every command in it works as it stands."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.make_lines import lines as made_lines
from tests.support.reading import COMMAND, PATIENCE_S, REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "READING.md"
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(scope="module", name="directory")
def directory_with_lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the document names."""
    directory = tmp_path_factory.mktemp("reading")
    (directory / "lines.log").write_text("".join(made_lines(3000, seed=1)))
    (directory / "before.log").write_text("".join(made_lines(3000, seed=2)))
    with gzip.open(directory / "lines.log.1.gz", "wt", encoding="utf-8") as file:
        file.writelines(made_lines(500, seed=3))
    return directory


@pytest.mark.parametrize("command", COMMANDS)
def test_command_works(command: str, directory: Path) -> None:
    """It exits with 0, says something, and nothing on stderr."""
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


def test_there_are_commands_for_everything() -> None:
    """None was lost from the document: each command is shown."""
    assert shutil.which(COMMAND)
    shown = {words[1] for command in COMMANDS if (words := command.split())[0] == "otel-canonical"}
    assert shown == {"tail", "report", "query", "check"}
    assert len(COMMANDS) >= 15
