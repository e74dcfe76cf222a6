"""Why a worker died: asked of the kernel before Gunicorn reaps it, as its hooks don't say.

Lives in the arbiter.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

#: What Gunicorn sends a worker that has outlasted its time to leave.
LEAVING = frozenset((signal.SIGTERM, signal.SIGQUIT, signal.SIGINT))


class DeathCertificates:
    """Collects exit statuses, the signals that the arbiter itself sent, and the kernel's OOM kills."""

    def __init__(self) -> None:
        self._statuses: dict[int, os.waitid_result] = {}
        self._sent: dict[int, set[int]] = {}
        self._oom_events = _oom_events_file()
        self._oom_kills = self._count_oom_kills()

    def peek(self, pids: Iterable[int]) -> None:
        """Note how those who have died did so, without reaping them."""
        for pid in pids:
            if pid not in self._statuses:
                with contextlib.suppress(OSError):
                    status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if status is not None:
                        self._statuses[pid] = status

    def is_known(self, pid: int) -> bool:
        """Return whether the death of this worker has been seen."""
        return pid in self._statuses

    def note_signal(self, pid: int, number: int) -> None:
        """Note a signal that the arbiter is about to send."""
        self._sent.setdefault(pid, set()).add(number)

    def is_timeout(self, pid: int) -> bool:
        """Return whether the arbiter aborted this worker because it was silent for too long."""
        return signal.SIGABRT in self._sent.get(pid, ())

    def cause(self, pid: int) -> str:
        """Return the cause of a death: `oom`, `shutdown`, `exit:7`, or the name of a signal."""
        status = self._statuses.get(pid)
        if status is None:
            return "unknown"
        sent = self._sent.get(pid, set())
        was_leaving = not LEAVING.isdisjoint(sent)
        if status.si_code == os.CLD_EXITED:
            return (
                "shutdown" if was_leaving and status.si_status == 0 else f"exit:{status.si_status}"
            )
        if status.si_status == signal.SIGKILL:
            if signal.SIGKILL in sent:
                return "shutdown"
            kills = self._count_oom_kills()
            if kills > self._oom_kills:
                self._oom_kills += 1
                return "oom"
        try:
            return signal.Signals(status.si_status).name
        except ValueError:
            return f"signal:{status.si_status}"

    def forget(self, pid: int) -> None:
        """Drop what is known of a worker that has been buried; its pid may be used again."""
        self._statuses.pop(pid, None)
        self._sent.pop(pid, None)

    def _count_oom_kills(self) -> int:
        if self._oom_events is None:
            return 0
        with contextlib.suppress(OSError, ValueError):
            for line in self._oom_events.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        return 0


def _oom_events_file() -> Path | None:
    """Return the file in which our cgroup counts its OOM kills, None if there is none.

    A host with both versions mounted has the memory controller in version 1.
    """
    groups: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    if "memory" in groups:
        root, path, name = Path("/sys/fs/cgroup/memory"), groups["memory"], "memory.oom_control"
    else:
        root, path, name = Path("/sys/fs/cgroup"), groups.get("", ""), "memory.events"
    # In a container the path may be the host's, the mount only our own group.
    candidates = (root / path / name, root / name)
    return next((file for file in candidates if file.is_file()), None)
