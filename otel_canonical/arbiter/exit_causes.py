"""Finds out why a worker died: from its wait status, from signals that Gunicorn sent, from OOM kills.

Lives in the arbiter.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

#: The signals with which Gunicorn tells a worker to leave.
LEAVING = frozenset((signal.SIGTERM, signal.SIGQUIT, signal.SIGINT))


#: The most wait statuses kept of children that may be no workers.
MOST_UNCLAIMED = 1024


class ExitCauses:
    """Collects wait statuses, the signals that the arbiter has sent, and the kernel's count of OOM kills."""

    def __init__(self) -> None:
        #: As `os.waitstatus_to_exitcode` returns it: an exit code, or a signal's number made negative.
        self._exit_codes: dict[int, int] = {}
        self._sent: dict[int, set[int]] = {}
        self._oom_events = _oom_events_file()
        self._oom_kills = self._count_oom_kills()

    def note_status(self, pid: int, status: int) -> None:
        """Note the wait status of a child, perhaps a worker."""
        if len(self._exit_codes) >= MOST_UNCLAIMED:
            # Statuses of other children pile up: the reporter, and orphans that a PID 1 adopts.
            self._exit_codes.pop(next(iter(self._exit_codes)))
        self._exit_codes[pid] = os.waitstatus_to_exitcode(status)

    def is_dead(self, pid: int) -> bool:
        """Return whether a worker has died, asking the kernel without reaping it."""
        if pid not in self._exit_codes:
            with contextlib.suppress(OSError):
                found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is not None:
                    has_exited = found.si_code == os.CLD_EXITED
                    self._exit_codes[pid] = found.si_status if has_exited else -found.si_status
        return pid in self._exit_codes

    def note_signal(self, pid: int, number: int) -> None:
        """Note a signal that the arbiter is about to send."""
        self._sent.setdefault(pid, set()).add(number)

    def is_timeout(self, pid: int) -> bool:
        """Return whether the arbiter aborted this worker because it was silent for too long."""
        return signal.SIGABRT in self._sent.get(pid, ())

    def cause(self, pid: int) -> str:
        """Return the cause of a death: `oom`, `shutdown`, `exit:7`, or the name of a signal."""
        code = self._exit_codes.get(pid)
        sent = self._sent.get(pid, set())
        was_leaving = not LEAVING.isdisjoint(sent)
        if code is None:
            # Killed at the arbiter's end, and on a busy machine not dead yet.
            return "shutdown" if was_leaving or signal.SIGKILL in sent else "unknown"
        if code >= 0:
            return "shutdown" if was_leaving and code == 0 else f"exit:{code}"
        if code == -signal.SIGKILL:
            if signal.SIGKILL in sent:
                return "shutdown"
            if self._count_oom_kills() > self._oom_kills:
                self._oom_kills += 1
                return "oom"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal:{-code}"

    def forget(self, pid: int) -> None:
        """Forget a worker whose place was closed; its pid may be used again."""
        self._exit_codes.pop(pid, None)
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
