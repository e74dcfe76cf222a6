"""Starts the reporter when there is something to report, sends it reports, and ends it.

Lives in the arbiter's main thread. The two share a pipe and nothing else. Writing to the pipe never
waits, and when it is closed, also by a kill of the arbiter, the reporter ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from otel_canonical.internal_errors import report
from otel_canonical.pool.ledger import PoolSample
from otel_canonical.request.reports import LEFT_TO_ARBITER, LostRequestReport, PoolReport

#: A reporter that died before it took a report is not started again sooner: it would die again. Nor
#: is one started sooner for a sample of the pool: the next sample comes in a second.
RESTART_INTERVAL_S = 10.0

#: Like `-m otel_canonical.reporter`, which would also import from the working directory, and from there first.
#: A worker of another user may be allowed to write to it. CPython 3.14 imports before this runs: it needs `-P`,
#: which is there from 3.11 on.
_START_REPORTER = (
    "import sys; sys.path[:] = filter(None, sys.path); import runpy; "
    "runpy.run_module('otel_canonical.reporter', run_name='__main__', alter_sys=True)"
)
_SAFE_PATH = ("-P",) if sys.version_info >= (3, 11) else ()
#: The directory that this package is imported from.
_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, in `fcntl` where the C library had it when Python was built


class ReporterProcess:
    """Sends samples of the pool, and lost requests: all if logs are exported, else those with a trace.

    Args:
        exports_logs: whether log events are exported.
        exports_metrics: whether the pool's metrics are.
        arguments: returns the arguments that a reporter is started with.
    """

    def __init__(
        self, exports_logs: bool, exports_metrics: bool, arguments: Callable[[], list[str]]
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
        self.reconfigure(exports_logs, exports_metrics)
        # No other child of the arbiter may keep the reporter alive.
        os.register_at_fork(after_in_child=self.close)

    def reconfigure(self, exports_logs: bool, exports_metrics: bool) -> None:
        """Take over the configuration of a reload: a reporter of the old one is let go."""
        self._exports_logs = exports_logs
        self._exports_metrics = exports_metrics
        if self._process is not None and self._command != self._make_command():
            self.close()

    def send(self, lost: LostRequestReport) -> None:
        """Send a lost request if anything of it is exported. If that fails it is said, not retried."""
        if not lost.ids.trace_id or not (lost.ids.is_exported or self._exports_logs):
            return
        line = lost.to_json().encode() + b"\n"
        # Twice: a write is what shows that a reporter has died.
        for _ in range(2):
            if not self._has_reporter(within_s=0.0 if self._has_served else RESTART_INTERVAL_S):
                break
            with contextlib.suppress(BrokenPipeError):
                if self._write(line) and not self._rest:
                    return
            # Dead, or so far behind that its pipe is full: the next report gets a new one.
            self.close()
        report("sending a lost request to the reporter; it has its line but no span")

    def send_sample(self, sample: PoolSample) -> None:
        """Send a sample of the pool if metrics are exported; one that the pipe can't take is dropped."""
        if not self._exports_metrics or not self._has_reporter(within_s=RESTART_INTERVAL_S):
            return
        message = PoolReport(sample, self._starts, self._dropped_samples)
        try:
            if not self._write(message.to_json().encode() + b"\n"):
                self._dropped_samples += 1
        except BrokenPipeError:
            self.close()

    def note_death(self, pid: int) -> None:
        """Note that a child of the arbiter has ended, perhaps the reporter."""
        if self._process is not None and self._process.pid == pid:
            self.close()

    def close(self) -> None:
        """Close our end of the pipe. In the arbiter that ends the reporter; a child only lets go of it."""
        process, self._process = self._process, None
        self._rest = b""
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            # Nobody waits for it here: Gunicorn reaps all children of the arbiter, this one too.
            process.returncode = 0

    def stop(self, within_s: float) -> None:
        """Close the pipe and wait for the reporter's end: if we are PID 1, our end would kill it."""
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
        """Return whether the pipe took the line or its beginning; the rest is written later.

        Raises:
            BrokenPipeError: the reporter is dead.
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
        """Return whether there is a reporter; start one unless one was started within the last seconds."""
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
                    [sys.executable, *_SAFE_PATH, "-c", _START_REPORTER, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    env=environment,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
            # A killed worker may leave a thousand requests open at once. 1 MiB is Linux's bound for users.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._process.stdin.fileno(), _SET_PIPE_SIZE, 1 << 20)
        return True

    def _make_command(self) -> tuple[list[str], dict[str, str]]:
        return self._arguments(), _environment()


def _environment() -> dict[str, str]:
    """Return our environment; PYTHONPATH without the working directory and without auto-instrumentation.

    The first could be written to by a worker of another user, the second would instrument the reporter
    like an app.
    """
    environment = dict(os.environ)
    path = environment.get("PYTHONPATH", "").split(os.pathsep)
    kept = [
        entry
        for entry in path
        if "auto_instrumentation" not in entry and not _is_working_directory(entry)
    ]
    environment["PYTHONPATH"] = os.pathsep.join(kept)
    return environment


def _is_working_directory(entry: str) -> bool:
    """Return whether an entry of PYTHONPATH is the working directory, unless this package is there."""
    try:
        is_it = os.path.samefile(entry or os.curdir, os.curdir)
        return is_it and not os.path.samefile(_PACKAGES, os.curdir)
    except OSError:
        return not entry
