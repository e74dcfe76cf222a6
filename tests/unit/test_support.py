"""Helpers in tests/support that tests of several processes rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.forks import exit_status, fork
from tests.support.peers.tools import built_once
from tests.support.servers import eventually


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
