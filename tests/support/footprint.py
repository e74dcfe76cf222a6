"""What an arbiter holds: descriptors, threads, shared memory, resident memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import is_alive, resident_kib, shared_memory_of
from tests.support.servers import Server, eventually

#: What a stretch of service may add to the arbiter's memory, in KiB: the allocator's slack.
MEMORY_SLACK_KIB = 2048
#: What has not changed for so long rests.
REST_S = 1.0


class Footprint(NamedTuple):
    """Counts of what an arbiter holds, and its anonymous memory."""

    descriptors: int
    threads: int
    shared_memory_files: int
    resident_kib: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """What must be the same again."""
        return self[:3]


def footprint(site: Server) -> Footprint:
    """Return the arbiter's footprint."""
    process = Path(f"/proc/{site.pid}")
    descriptors, threads = (len(list((process / name).iterdir())) for name in ("fd", "task"))
    shared_memory_files = len(shared_memory_of(site.pid))
    return Footprint(descriptors, threads, shared_memory_files, resident_kib(site.pid))


def settled_footprint(site: Server) -> Footprint:
    """Return the footprint once it rests: no worker between death and birth, Gunicorn all started."""
    looks = [footprint(site)]
    resting_since = time.monotonic()

    def rests() -> bool:
        nonlocal resting_since
        looks.append(footprint(site))
        is_whole = len(site.workers()) == 2 and all(is_alive(pid) for pid in site.workers())
        if not is_whole or looks[-1].counts != looks[-2].counts:
            resting_since = time.monotonic()
        return time.monotonic() - resting_since > REST_S

    eventually(rests, lambda: f"never at rest: {looks[-10:]}")
    return footprint(site)
