"""The arbiter's line to the reporter: starts it when there is something to report, feeds it, ends it.

Lives in the arbiter's main thread. A pipe is all there is between the two: writing to it never waits,
and its end, also when the arbiter is killed, ends the reporter.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from otel_canonical.arbiter.lost_requests import Death
from otel_canonical.internal_errors import report
from otel_canonical.pool.ledger import PoolSample
from otel_canonical.pool.reports import LEFT_TO_ARBITER

#: One that died before it took a line is not started again before this: it would die again. Nor is
#: one for the sake of a sample of the pool: the next comes in a second.
RESTART_INTERVAL_S = 10.0


class ReporterProcess:
    """Sends deaths to the reporter, those whose trace is exported and, if logs are, all; and samples.

    Args:
        exports_logs: whether log events are exported.
        exports_metrics: whether the pool's metrics are.
        arguments: returns those that a reporter is started with.
    """

    def __init__(
        self, *, exports_logs: bool, exports_metrics: bool, arguments: Callable[[], list[str]]
    ) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._started_monotonic = float("-inf")
        self._has_served = False
        #: Of a line that the pipe had no room for, what it still lacks.
        self._rest = b""
        self._starts = 0
        self._dropped_samples = 0
        self._command: object = None
        self.reconfigure(exports_logs=exports_logs, exports_metrics=exports_metrics)
        # Whoever else the arbiter forks must not keep the reporter alive.
        os.register_at_fork(after_in_child=self.close)

    def reconfigure(self, *, exports_logs: bool, exports_metrics: bool) -> None:
        """Take over the configuration of a reload: a reporter of the old one is let go."""
        self._exports_logs = exports_logs
        self._exports_metrics = exports_metrics
        if self._process is not None and self._command != self._make_command():
            self.close()

    def send(self, death: Death) -> None:
        """Report a death if anything of it is exported; one that can't be sent is said, not retried."""
        if not (death.is_exported or self._exports_logs):
            return
        if not death.request.texts.get("trace_id"):
            return
        line = json.dumps(_facts(death)).encode() + b"\n"
        # Twice: that a reporter has died shows when it is written to.
        for _ in range(2):
            if not self._has_reporter(within_s=0.0 if self._has_served else RESTART_INTERVAL_S):
                break
            with contextlib.suppress(BrokenPipeError):
                if self._write(line) and not self._rest:
                    return
            # Dead, or so far behind that its pipe is full: the next line gets a new one.
            self.close()
        report("telling the reporter of a dead request; it has its line but no span")

    def send_sample(self, sample: PoolSample) -> None:
        """Send a sample of the pool if metrics are exported; one that the pipe can't take is dropped."""
        if not self._exports_metrics or not self._has_reporter(within_s=RESTART_INTERVAL_S):
            return
        facts = {
            **sample._asdict(),
            "kind": "pool",
            "state": sample.state._asdict(),
            "starts": self._starts,
            "dropped_samples": self._dropped_samples,
        }
        try:
            if not self._write(json.dumps(facts).encode() + b"\n"):
                self._dropped_samples += 1
        except BrokenPipeError:
            self.close()

    def note_death(self, pid: int) -> None:
        """Note that a child of the arbiter's has died, perhaps the reporter."""
        if self._process is not None and self._process.pid == pid:
            self.close()

    def close(self) -> None:
        """Let go of the pipe: in the arbiter that ends the reporter, in a child only our hold on it.

        Only the arbiter's end shall keep the reporter alive.
        """
        process, self._process = self._process, None
        self._rest = b""
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            # Nobody waits for it here: Gunicorn reaps all children of the arbiter, this one too.
            process.returncode = 0

    def leave(self, within_s: float) -> None:
        """Let the reporter go and wait for its end: with a PID 1 that has left, it would be killed."""
        pid = self._process.pid if self._process is not None else None
        self.close()
        deadline = time.monotonic() + within_s
        while pid is not None and time.monotonic() < deadline:
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return
            time.sleep(0.01)

    def _write(self, line: bytes) -> bool:
        """Return whether the pipe has taken a line, at least its beginning; the rest then follows.

        Raises:
            BrokenPipeError: nobody reads it.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        try:
            if self._rest:
                self._rest = self._rest[os.write(pipe, self._rest) :]
            if not self._rest:
                self._rest = line[os.write(pipe, line) :]
                self._has_served = True
                return True
        except BlockingIOError:
            pass
        return False

    def _has_reporter(self, *, within_s: float) -> bool:
        """Return whether there is a reporter; start one unless one was within the last seconds."""
        if self._process is None:
            now = time.monotonic()
            if now - self._started_monotonic < within_s:
                return False
            self._started_monotonic = now
            self._has_served = False
            self._starts += 1
            self._command = self._make_command()
            arguments, environment = self._command
            # Until it ignores them it must not hear the signals that a whole process group is sent.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_ARBITER)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "otel_canonical.reporter", *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    env=environment,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
        return True

    def _make_command(self) -> tuple[list[str], dict[str, str]]:
        return self._arguments(), _environment()


def _facts(death: Death) -> dict[str, Any]:
    texts = death.request.texts
    ended_wall_ns = death.request.started_wall_ns + death.ended_ns - death.request.started_ns
    route = texts.get("route")
    event = death.event
    return {
        "kind": "death",
        "name": f"{texts['method']} {route}" if route else texts["method"],
        "trace_id": texts["trace_id"],
        "span_id": texts["span_id"],
        "parent_span_id": texts.get("caller_span_id", ""),
        "started_wall_ns": death.request.started_wall_ns,
        "ended_wall_ns": ended_wall_ns,
        "is_exported": death.is_exported,
        "export_rule": death.export_rule,
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
