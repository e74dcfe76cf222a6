"""Every command on files of lines, in README, docs/READING.md and docs/QUESTIONS.md, works as it stands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.documents import (
    check_file_command,
    console_commands,
    file_commands,
    fill_with_lines,
)
from tests.support.reading import COMMAND

COMMANDS = {
    "docs/READING.md": console_commands("docs/READING.md"),
    "docs/QUESTIONS.md": file_commands("docs/QUESTIONS.md"),
    "README.md": file_commands("README.md"),
}
#: Each once, wherever it stands.
ALL = list(dict.fromkeys(command for commands in COMMANDS.values() for command in commands))


@pytest.fixture(scope="module", name="directory")
def directory_with_lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the documents name."""
    directory = tmp_path_factory.mktemp("reading")
    fill_with_lines(directory)
    return directory


@pytest.mark.parametrize("command", ALL)
def test_command_works(command: str, directory: Path) -> None:
    """It exits with 0, says something, and nothing on stderr."""
    check_file_command(command, directory)


def test_there_are_commands_for_everything() -> None:
    """None was lost from the documents: each command is shown, each question has its own."""
    assert shutil.which(COMMAND)
    shown = {
        words[1]
        for command in COMMANDS["docs/READING.md"]
        if (words := command.split())[0] == "otel-canonical"
    }
    assert shown == {"tail", "report", "query", "check"}
    assert len(COMMANDS["docs/READING.md"]) >= 15
    assert len(COMMANDS["docs/QUESTIONS.md"]) >= 12
    assert len(COMMANDS["README.md"]) >= 6


def test_every_question_has_a_command() -> None:
    """No section of docs/QUESTIONS.md but the one on alerts is without a command that answers it."""
    text = (Path(__file__).parents[2] / "docs" / "QUESTIONS.md").read_text()
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert [name for name, part in sections.items() if "<!-- file -->" not in part] == [
        "Alert on it"
    ]
