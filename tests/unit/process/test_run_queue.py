"""The kernel's scheduling statistics: read by thread, closed with their thread, absent where there are none."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from otel_canonical.process import run_queue
from otel_canonical.process.run_queue import RunQueue
from tests.support.forks import exit_status, fork
from tests.support.servers import eventually


def in_threads(count: int, queue: RunQueue) -> set[int]:
    """Read in some threads that are alive together, and return their idents."""
    barrier = threading.Barrier(count)
    idents: set[int] = set()

    def look() -> None:
        assert queue.read() is not None
        idents.add(threading.get_ident())
        barrier.wait()

    threads = [threading.Thread(target=look) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return idents


def test_thread_reads_its_own_from_a_file_that_stays_open() -> None:
    """Three numbers: what it ran, what it waited, how often."""
    queue = RunQueue()
    first = queue.read()
    [file] = queue.files.values()
    second = queue.read()
    assert [*queue.files.values()] == [file]
    assert first is not None
    assert second is not None
    earlier = [int(number) for number in first.split()]
    later = [int(number) for number in second.split()]
    assert earlier[2] > 0
    assert all(before <= after for before, after in zip(earlier, later, strict=True))
    queue.forget()


def test_files_of_threads_that_have_ended_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are never many more files than threads."""
    monkeypatch.setattr(run_queue, "MANY", 4)
    queue = RunQueue()
    assert len(in_threads(3, queue)) == 3
    for _ in range(10):
        in_threads(2, queue)
    assert len(queue.files) <= 6
    open_now = {int(name) for name in os.listdir("/proc/self/fd")}
    assert set(queue.files.values()) <= open_now
    queue.forget()
    assert queue.files == {}


def test_ident_of_a_thread_that_has_ended_is_read_anew() -> None:
    """Its file says that there is no such thread."""
    queue = RunQueue()
    in_threads(1, queue)
    [stale] = queue.files.values()

    def has_ended() -> bool:
        # A thread that was joined takes a moment more to be gone from the kernel.
        try:
            os.pread(stale, run_queue.SIZE, 0)
        except ProcessLookupError:
            return True
        return False

    eventually(has_ended, lambda: "the thread is still there")
    queue.files = {threading.get_ident(): stale}
    assert queue.read() is not None
    queue.forget()


@pytest.mark.parametrize("text", [None, "0 0 0\n", "", "no numbers here\n", "1 2\n"])
def test_nothing_is_known_where_the_kernel_does_not_count(text: str | None, tmp_path: Path) -> None:
    """Neither 0 nor an error, and no file stays open."""
    path = tmp_path / "schedstat"
    if text is not None:
        path.write_text(text)
    queue = RunQueue(str(path))
    assert queue.read() is None
    path.write_text("5 6 7\n")
    assert queue.read() is None, "it is asked once"
    assert queue.files == {}


def test_fork_opens_files_of_its_own() -> None:
    """Those of its parent show the parent's threads."""
    queue = RunQueue()
    assert queue.read() is not None
    pid = fork(lambda: int(bool(queue.files)))
    assert exit_status(pid) == 0
    queue.forget()
