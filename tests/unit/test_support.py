"""What the tests themselves rely on: peers built once, shared servers in one process, short modules."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environments import INSTRUMENT, clean_environment, instrumented
from tests.support.forks import exit_status, fork
from tests.support.peers.tools import built_once
from tests.support.servers import eventually

TESTS = Path(__file__).parents[1]
LONGEST_MODULE = 500
IMPORTS_A_TEST = re.compile(
    r"^\s*(?:from tests\.(?:\w+\.)*test_\w+|import tests\.(?:\w+\.)*test_)", re.MULTILINE
)


def test_peer_is_built_once_when_others_want_it_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for the one that builds, and use what it has built."""
    monkeypatch.setenv("OTEL_CANONICAL_TEST_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    source.write_text("text")
    others: list[int] = []

    def build_again(directory: Path) -> None:
        raise AssertionError("built twice")

    def build(directory: Path) -> None:
        others.extend(fork(lambda: built_once("peer", [source], build_again)) for _ in range(2))
        eventually(lambda: waiting_for_a_lock(others), lambda: Path("/proc/locks").read_text())
        (directory / "program").write_text("built")

    directory = built_once("peer", [source], build)
    assert [exit_status(pid) for pid in others] == [0, 0]
    assert (directory / "program").read_text() == "built"
    assert (directory / "source").read_text() == "text"


def waiting_for_a_lock(pids: list[int]) -> bool:
    """Return whether all these processes wait for a lock on a file."""
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    waiting = {words[5] for words in locks if words[1] == "->"}
    return {str(pid) for pid in pids} <= waiting


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"PYTHONPATH": "/some:/others"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SERVICE_NAME": "a=b c"},
    ],
    ids=["nothing", "path", "exported"],
)
def test_servers_start_in_the_environment_that_opentelemetry_instrument_makes(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """All that it does before it becomes Gunicorn is to set variables."""
    given = clean_environment(tmp_path, settings)
    printed = subprocess.check_output(
        [*INSTRUMENT, "/usr/bin/env", "--null"], env=given, cwd=tmp_path, text=True
    )
    made = dict(variable.split("=", 1) for variable in printed.split("\0") if variable)
    made.pop("LC_CTYPE", None)  # each Python sets it for itself where no locale is set
    assert instrumented(given, tmp_path) == made


SHARING = """
import os
import pytest

@pytest.fixture(scope="module")
def server():
    print()

@pytest.mark.parametrize("n", range(8))
def test_shared(n, server):
    with open("processes", "a") as file:
        file.write(f"{os.getpid()}\\n")
"""


def test_tests_that_share_a_server_run_in_one_process(tmp_path: Path) -> None:
    """pytest-xdist ignores groups silently with a pytest that it doesn't know."""
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "test_sharing.py").write_text(SHARING)
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-c", "/dev/null"]
    done = subprocess.run(
        [*command, "--rootdir", ".", "-p", "no:cacheprovider", "test_sharing.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "8 passed" in done.stdout, done.stdout + done.stderr
    processes = (tmp_path / "processes").read_text().split()
    assert (len(processes), len(set(processes))) == (8, 1)


def test_no_module_imports_a_test_and_none_is_long() -> None:
    """What two test modules need is in tests/support; a long one is split by subject."""
    texts = {str(path.relative_to(TESTS)): path.read_text() for path in TESTS.rglob("*.py")}
    assert len(texts) > 100
    assert [name for name, text in texts.items() if IMPORTS_A_TEST.search(text)] == []
    assert [name for name, text in texts.items() if text.count("\n") > LONGEST_MODULE] == []
