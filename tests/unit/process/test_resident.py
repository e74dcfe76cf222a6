"""Resident memory: as the kernel says, absent where it doesn't."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import pytest

from otel_canonical.process.resident import ResidentMemory


def test_look_returns_what_is_resident() -> None:
    """As /proc/self/status says, and more when memory was used."""
    memory = ResidentMemory()
    before = memory.look(5)
    assert before is not None
    status = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert status is not None
    assert abs(before - 1024 * int(status[1])) < 4 << 20
    assert (memory.bytes, memory.seen_ns, memory.is_current) == (before, 5, True)
    # Pages that are new: what `malloc` returns may have been resident before.
    kept = mmap.mmap(-1, 32 << 20)
    kept[:: mmap.PAGESIZE] = b"x" * (len(kept) // mmap.PAGESIZE)
    after = memory.look(6)
    assert after is not None
    assert after - before > 24 << 20
    assert len(kept) == 32 << 20


@pytest.mark.parametrize("text", [None, "", "12\n", "many pages here\n"])
def test_nothing_is_known_where_proc_shows_none(text: str | None, tmp_path: Path) -> None:
    """Neither 0 nor an error."""
    path = tmp_path / "statm"
    if text is not None:
        path.write_text(text)
    memory = ResidentMemory(str(path))
    assert memory.look(1) is None
    assert memory.bytes is None
    assert memory.look(2) is None
