"""Dumps of the interpreter's crash handler, parsed as they really are."""

from __future__ import annotations

import os
import subprocess
import sys

from otel_canonical import stack_recorder

PROGRAM = """
import ctypes, os, sys, threading
from otel_canonical import stack_recorder
fd = int(sys.argv[1])
assert stack_recorder.record_into(fd) is (len(sys.argv) < 3)
print(threading.get_ident(), flush=True)
threading.Thread(target=threading.Event().wait, daemon=True).start()
def crash():
    ctypes.string_at(0)
def outer():
    crash()
outer()
"""


def test_stacks_of_a_crash_are_found_by_thread() -> None:
    """A segfault with two threads: each thread's stack, outermost first."""
    fd = stack_recorder.make_file()
    assert fd is not None
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(fd)],
        pass_fds=[fd],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert process.returncode == -11, process.stderr
    stacks = stack_recorder.read_stacks(fd)
    os.close(fd)
    assert len(stacks) == 2
    crashed = [name for _, _, name in stacks[int(process.stdout)]]
    assert crashed[:3] == ["<module>", "outer", "crash"]


def test_dump_of_the_user_stays_theirs() -> None:
    """With PYTHONFAULTHANDLER the dump goes where it always went, and none of it to us."""
    fd = stack_recorder.make_file()
    assert fd is not None
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(fd), "enabled"],
        pass_fds=[fd],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONFAULTHANDLER": "1"},
    )
    assert "Segmentation fault" in process.stderr
    assert stack_recorder.read_stacks(fd) == {}
    os.close(fd)


def test_nothing_is_found_in_nothing() -> None:
    """No dump, no stacks; nonsense is no stack either."""
    assert stack_recorder.parse("") == {}
    assert stack_recorder.parse('  File "x.py", line 1 in f\nnonsense') == {}
    assert stack_recorder.read_stacks(-1) == {}
