"""The arbiter's line to the reporter: starts it when there is something to report, feeds it, ends it.

Lives in the arbiter's main thread. A pipe is all there is between the two: writing to it never waits,
and its end, also when the arbiter is killed, ends the reporter.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import Any

from otel_canonical.fence import report
from otel_canonical.obituary import Death

#: One that died before it took a line is not started again before this: it would die again.
RESTART_INTERVAL_S = 10.0


class ReporterLink:
    """Sends deaths to the reporter, those whose trace is exported and, if logs are, all."""

    def __init__(self, *, exports_logs: bool) -> None:
        self._exports_logs = exports_logs
        self._process: subprocess.Popen[bytes] | None = None
        self._started_monotonic = float("-inf")
        self._has_served = False

    def send(self, death: Death) -> None:
        """Report a death if anything of it is exported; one that can't be sent is said, not retried."""
        if not (death.request.is_exported or self._exports_logs):
            return
        if not death.request.texts.get("trace_id"):
            return
        line = json.dumps(_facts(death)).encode() + b"\n"
        # Twice: that a reporter has died shows when it is written to.
        if not (self._write(line) or self._write(line)):
            report("telling the reporter of a dead request; it has its line but no span")

    def _write(self, line: bytes) -> bool:
        pipe = self._pipe()
        if pipe is None:
            return False
        try:
            is_whole = os.write(pipe, line) == len(line)
        except OSError:
            is_whole = False
        if is_whole:
            self._has_served = True
        else:
            # Dead, or so far behind that its pipe is full: the next line gets a new one.
            self.close()
        return is_whole

    def close(self) -> None:
        """Let go of the pipe: in the arbiter that ends the reporter, in a worker only our hold on it.

        Only the arbiter's end shall keep the reporter alive.
        """
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            # Nobody waits for it here: Gunicorn reaps all children of the arbiter, this one too.
            process.returncode = 0

    def _pipe(self) -> int | None:
        if self._process is None:
            now = time.monotonic()
            is_too_soon = now - self._started_monotonic < RESTART_INTERVAL_S
            if is_too_soon and not self._has_served:
                return None
            self._started_monotonic = now
            self._has_served = False
            self._process = subprocess.Popen(
                [sys.executable, "-m", "otel_canonical.reporter"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
        assert self._process.stdin is not None
        return self._process.stdin.fileno()


def _facts(death: Death) -> dict[str, Any]:
    texts = death.request.texts
    ended_wall_ns = death.request.started_wall_ns + death.ended_ns - death.request.started_ns
    route = texts.get("route")
    event = death.event
    return {
        "name": f"{texts['method']} {route}" if route else texts["method"],
        "trace_id": texts["trace_id"],
        "span_id": texts["span_id"],
        "parent_span_id": texts.get("caller_span_id", ""),
        "started_wall_ns": death.request.started_wall_ns,
        "ended_wall_ns": ended_wall_ns,
        "is_exported": death.request.is_exported,
        "event_type": event.event_type.value,
        "pairs": event.pairs,
        "stack": event.stack,
    }


def _environment() -> dict[str, str]:
    """Return our environment, without what would instrument the reporter like an app."""
    environment = dict(os.environ)
    path = environment.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in path if "auto_instrumentation" not in entry]
    environment["PYTHONPATH"] = os.pathsep.join(kept)
    return environment
