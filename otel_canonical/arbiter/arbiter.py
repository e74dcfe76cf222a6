"""The arbiter's half: gives workers their places, writes the lines of lost requests, samples the pool.

Lives in the arbiter, in its main thread. Forked workers start from a copy of it. Nothing here starts a
thread, imports the SDK or Django, or waits for a network: Gunicorn may fork at any moment.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from otel_canonical import otel_config
from otel_canonical._version import __version__
from otel_canonical.arbiter import gunicorn
from otel_canonical.arbiter.live_pool import LivePool
from otel_canonical.arbiter.lost_requests import LostRequests
from otel_canonical.arbiter.pool_sampler import PoolSampler
from otel_canonical.arbiter.reporter_process import ReporterProcess
from otel_canonical.event.line_writer import open_line_writer
from otel_canonical.event.whole_prints import keep_apart
from otel_canonical.pool import identity
from otel_canonical.pool.counters import no_counts
from otel_canonical.pool.ledger import PoolLedger, PoolSample, PoolShape
from otel_canonical.pool.place import Place
from otel_canonical.pool.worker_class import worker_class_of
from otel_canonical.process import identity as process_identity
from otel_canonical.settings import Settings


class ArbiterSide:
    """Everything of ours in one arbiter. Methods named after a Gunicorn hook take its parameters.

    Args:
        arbiter: Gunicorn's, set up for the first time.
        settings: the operator's choice.
    """

    def __init__(self, arbiter: Any, settings: Settings) -> None:
        # With --daemon this process is a fork of the one that was started.
        process_identity.claim()
        self.settings = settings
        #: The pool's name in `service.instance.id`; known when the first worker is about to be forked.
        self.pool_name = ""
        #: The place of the worker that was forked last; in a worker, its own. None without room for it.
        self.place: Place | None = None
        #: The lines that the arbiter itself has written.
        self._counts = no_counts()
        self.line_writer = open_line_writer(
            settings, arbiter.cfg, self._counts, arbiter.log.warning
        )
        self._share_output()
        emit = self.line_writer.emit
        self._reporter = ReporterProcess(*_exported(settings), arguments=lambda: [self.pool_name])
        self._ledger = PoolLedger(_shape(arbiter), self._counts)
        self._lost_requests = LostRequests(settings, self._ledger, emit, self._reporter.send)
        self._live_pool = LivePool(arbiter, self._ledger)
        self._sampler = PoolSampler(
            settings, self._ledger, emit, self._lost_requests.pids, self._take_sample
        )
        self._announce(arbiter.log)

    def _announce(self, log: Any) -> None:
        log.info(
            "otel-canonical %s: one %s line per request on %s; %s",
            __version__,
            self.settings.format,
            self.line_writer.output.described(),
            otel_config.describe(),
        )
        if self._ledger.scoreboards()[-1].memory.fd is None:
            log.info(
                "otel-canonical: the kernel refuses a memfd; `otel-canonical ps` can't see this pool"
            )

    def _take_sample(self, sample: PoolSample) -> None:
        self._reporter.send_sample(sample)
        self._live_pool.take(sample)

    def _share_output(self) -> None:
        """Come to terms with what else is written to where the lines go."""
        output = self.line_writer.output
        keep_apart(output)
        gunicorn.unblock_error_log(output.is_same_file)

    def reconfigure(self, arbiter: Any, settings: Settings) -> None:
        """Take over the configuration of a reload (SIGHUP). Workers of before keep what they have."""
        previous, self.settings = self.settings, settings
        if not settings.enabled:
            self._reporter.close()
            return
        former = self.line_writer
        # What could not be opened before may be there now.
        if previous != settings or former.output.is_substitute:
            self.line_writer = open_line_writer(
                settings, arbiter.cfg, self._counts, arbiter.log.warning
            )
        # Gunicorn has made its handlers anew.
        self._share_output()
        emit = self.line_writer.emit
        self._ledger.reshape(_shape(arbiter))
        self._lost_requests.reconfigure(settings, emit)
        self._sampler.reconfigure(settings, emit)
        self._reporter.reconfigure(*_exported(settings))
        if former is not self.line_writer:
            # Closed last: Gunicorn 23 may write a lost request's line in a signal handler before this.
            former.output.close()

    def reopen_output(self) -> None:
        """Reopen the lines' file by its name, as after a rotation (SIGUSR1)."""
        self.line_writer.output.reopen()

    def pre_fork(self, server: Any, worker: Any) -> None:
        """Reserve the place of a worker that is about to be forked."""
        if not self.pool_name:
            # The arbiter listens now: with `--bind :0` the port is known.
            self._live_pool.show()
        self.pool_name = _pool_name(worker)
        self.place = self._lost_requests.open_place(worker) if self.settings.enabled else None

    def child_exit(self, server: Any, worker: Any) -> None:
        """Write the lines of the requests that a dead worker left open."""
        self._lost_requests.close_place(worker)

    def worker_reaped_elsewhere(self, worker: Any) -> None:
        """Write such lines for a worker that somebody else has reaped: no `child_exit` comes for it."""
        self._lost_requests.close_place(worker)

    def on_exit(self, server: Any) -> None:
        """Write what is still to be written: Gunicorn has killed its workers, but not reaped all."""
        self._lost_requests.close_all_places(server.WORKERS.values())
        self._sampler.sample(server, is_last=True)
        self._reporter.stop(self.settings.flush_seconds)

    def pre_exec(self, server: Any) -> None:
        """Tell a second arbiter (SIGUSR2) that it succeeds this one; runs in a fork of this one."""
        # The new arbiter starts from the environment that this one was started in.
        environ = server.cfg.env_orig
        environ[identity.SUCCESSOR_VARIABLE] = identity.successor_of(environ)

    def on_dirty_starting(self, arbiter: Any) -> None:
        """Close what belongs to workers, in the parent of dirty workers (Gunicorn >= 25)."""
        self._lost_requests.close_others(None)
        # It may outlive the arbiter: the commands would still find a pool then.
        self._ledger.close_descriptors()

    def become_worker(self, worker: Any) -> None:
        """Close what belongs to other workers, in a worker that has just been forked."""
        self._lost_requests.close_others(worker)

    def note_signal(self, pid: int, number: int) -> None:
        """Note a signal that Gunicorn is about to send to a worker."""
        self._lost_requests.note_signal(pid, number)

    def note_status(self, pid: int, status: int) -> None:
        """Note the wait status of a child of the arbiter: a worker, the reporter, an orphan."""
        self._reporter.note_death(pid)
        self._lost_requests.note_status(pid, status)

    def sample_pool(self, arbiter: Any) -> None:
        """Sample the pool; called by Gunicorn's loops once a second or more often."""
        if self.settings.enabled:
            self._sampler.sample(arbiter)


def _exported(settings: Settings) -> tuple[bool, bool]:
    """Return whether log events, and whether the pool's metrics, are exported."""
    return (
        settings.log_events != "false" and otel_config.exports("logs"),
        settings.pool_metrics and otel_config.exports("metrics"),
    )


def _shape(arbiter: Any) -> PoolShape:
    """Return how many requests a worker can have open at once, and how many workers there are."""
    kind = worker_class_of(arbiter.worker_class)
    return PoolShape(
        kind.slots(arbiter.cfg),
        arbiter.cfg.workers,
        is_bounded=kind.is_bounded,
        has_queues=kind.has_queue,
    )


def _pool_name(worker: Any) -> str:
    # With --reuse-port the workers make their sockets themselves, later.
    binds = [listener.getsockname() for listener in worker.sockets] or worker.cfg.address
    return identity.pool_name(socket.gethostname(), binds, os.environ)
