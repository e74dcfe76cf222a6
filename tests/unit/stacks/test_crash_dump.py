"""Dumps of Python's faulthandler, parsed as it really writes them."""

from __future__ import annotations

import os
import subprocess
import sys

from otel_canonical.stacks import crash_dump

PROGRAM = """
import ctypes, os, sys, threading
from otel_canonical.stacks import crash_dump
fd = int(sys.argv[1])
assert crash_dump.record_into(fd) is (len(sys.argv) < 3)
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
    fd = crash_dump.make_file()
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
    stacks = crash_dump.read_stacks(fd)
    os.close(fd)
    assert len(stacks) == 2
    crashed = [name for _, _, name in stacks[int(process.stdout)]]
    assert crashed[:3] == ["<module>", "outer", "crash"]


def test_dump_of_the_user_stays_theirs() -> None:
    """With PYTHONFAULTHANDLER the dump goes where it always went, and none of it to us."""
    fd = crash_dump.make_file()
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
    assert crash_dump.read_stacks(fd) == {}
    os.close(fd)


FORKS = """
import ctypes, faulthandler, os, sys
from otel_canonical.stacks import crash_dump
fd = int(sys.argv[1])
assert crash_dump.record_into(fd)
exec(sys.argv[2])
def crash_in_child():
    ctypes.string_at(0)
pid = os.fork()
if pid == 0:
    crash_in_child()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -11
if len(sys.argv) > 3:
    ctypes.string_at(0)
"""


def after_fork(*arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a worker whose child crashes; return its end, and the functions in the dump that we have."""
    fd = crash_dump.make_file()
    assert fd is not None
    process = subprocess.run(
        [sys.executable, "-c", FORKS, str(fd), *arguments],
        pass_fds=[fd],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    stacks = crash_dump.read_stacks(fd)
    os.close(fd)
    return process, {name for stack in stacks.values() for _, _, name in stack}


def test_crash_of_a_child_is_not_the_workers() -> None:
    """A process that the app has forked; what the worker itself does later is there."""
    process, dumped = after_fork("")
    assert (process.returncode, dumped) == (0, set()), process.stderr
    process, dumped = after_fork("", "crashes")
    assert process.returncode == -11, process.stderr
    assert "<module>" in dumped
    assert "crash_in_child" not in dumped


def test_child_keeps_what_the_app_has_enabled() -> None:
    """The app's own dumps of crashes go where it wants them, from its children, too."""
    process, dumped = after_fork("faulthandler.enable(sys.stderr)")
    assert "crash_in_child" in process.stderr
    assert dumped == set()


def test_child_keeps_a_file_that_has_taken_the_place() -> None:
    """An app that closes what it doesn't know may have opened another under the number."""
    process, _ = after_fork(
        "read, write = os.pipe(); os.dup2(write, fd); os.close(write); faulthandler.disable();"
        "os.register_at_fork(after_in_child=lambda: os.write(fd, b'here'));"
        "os.register_at_fork(after_in_parent=lambda: print(os.read(read, 9)))"
    )
    assert "b'here'" in process.stdout, process.stderr


def test_programs_that_a_child_starts_get_nothing_in_its_place() -> None:
    """What a forked child has there instead is closed in a program that it executes."""
    process, _ = after_fork(
        "os.register_at_fork(after_in_child=lambda: os.write(1, b'%d' % os.get_inheritable(fd)))"
    )
    assert process.stdout == "0", process.stderr


DUMP = """Thread 0x00007f01 (most recent call first):
  File "/srv/shop/prices.py", line 9 in price
  File "/srv/shop/views.py", line 5 in show
  File "/srv/shop/wsgi.py", line 1 in <module>

Stack (most recent call first):
  File "/srv/shop/tasks.py", line 3 in run
"""


def test_dump_is_read_from_its_first_byte() -> None:
    """By thread, the outermost frame first; a stack without a thread has the key 0."""
    fd = crash_dump.make_file()
    assert fd is not None
    os.write(fd, DUMP.encode())
    assert crash_dump.read_stacks(fd) == {
        0x7F01: [
            ("/srv/shop/wsgi.py", 1, "<module>"),
            ("/srv/shop/views.py", 5, "show"),
            ("/srv/shop/prices.py", 9, "price"),
        ],
        0: [("/srv/shop/tasks.py", 3, "run")],
    }
    os.close(fd)


def test_nothing_is_found_in_nothing() -> None:
    """No dump, no stacks; nonsense is no stack either."""
    assert crash_dump.parse("") == {}
    assert crash_dump.parse('  File "x.py", line 1 in f\nnonsense') == {}
    assert crash_dump.read_stacks(-1) == {}
