"""Forks are told from the process itself, however they were made."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from otel_canonical.process import identity as process_identity
from otel_canonical.process.identity import own
from tests.support.forks import exit_status, fork

UNSEEN = """
import ctypes, os
from otel_canonical.process.identity import own
assert own[0]
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    os._exit(own[0])
assert own[0]
raise SystemExit(os.waitpid(pid, 0)[1])
"""


def test_fork_is_told_from_the_process() -> None:
    """Until it says that it is one that may write."""

    def in_child() -> None:
        assert not own[0]
        process_identity.claim()
        assert own[0]

    assert own[0]
    assert exit_status(fork(in_child)) == 0
    assert own[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's mark is Linux's")
def test_fork_that_python_does_not_know_of_is_told_from_the_process() -> None:
    """As C libraries make them."""
    assert ctypes.PyDLL(None).fork
    assert subprocess.run([sys.executable, "-c", UNSEEN], check=False).returncode == 0


def test_callbacks_run_in_forks_as_long_as_they_live() -> None:
    """A worker's log forgets its requests there; one that is gone is not called."""
    called: list[str] = []

    class Owner:
        def __init__(self, name: str) -> None:
            self.name = name

        def forget(self) -> None:
            called.append(self.name)

    kept, gone = Owner("kept"), Owner("gone")
    process_identity.when_forked(kept.forget)
    process_identity.when_forked(gone.forget)
    del gone

    def in_child() -> None:
        assert called == ["kept"], called

    assert exit_status(fork(in_child)) == 0
    assert called == []
    assert os.getpid()
