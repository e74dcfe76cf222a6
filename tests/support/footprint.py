"""What an arbiter holds: descriptors, threads, shared memory, resident memory."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import is_alive, shared_memory_of
from tests.support.servers import Server, eventually

#: What a stretch of service may add to the arbiter's memory, in KiB: the allocator's slack.
MEMORY_SLACK_KIB = 2048


def settled_footprint(site: Server) -> tuple[tuple[int, int, int], float, int]:
    """Return the footprint once it rests: no worker between death and birth, Gunicorn all started."""
    looks: list[tuple[int, int, int]] = []

    def rests() -> bool:
        looks.append(footprint(site)[0])
        is_whole = len(site.workers()) == 2 and all(is_alive(pid) for pid in site.workers())
        return is_whole and len(looks) > 100 and len(set(looks[-100:])) == 1

    eventually(rests, lambda: f"never at rest: {looks[-10:]}")
    return footprint(site)


def footprint(site: Server) -> tuple[tuple[int, int, int], float, int]:
    """Return ((descriptors, threads, shared-memory files), 0, resident KiB) of the arbiter."""
    process = Path(f"/proc/{site.pid}")
    status = (process / "status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    descriptors = len(list((process / "fd").iterdir()))
    threads = len(list((process / "task").iterdir()))
    return (descriptors, threads, len(shared_memory_of(site.pid))), 0.0, int(resident.split()[1])
