"""Who does what in which process; the file to read first.

the door  `install`, in whatever process a door is opened: wait for a Gunicorn.
arbiter   its set-up, at the start and after SIGHUP: settings read, hooks chained. Then places before
          forks and lost_requests after deaths. No SDK, no thread, no Django.
worker    after the fork and before the app: `worker.runtime`.
the app   `django.setup`, where the app is loaded.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from otel_canonical import otel_config
from otel_canonical._version import __version__
from otel_canonical.arbiter import code_snapshot, gunicorn
from otel_canonical.arbiter.lost_requests import LostRequests
from otel_canonical.arbiter.pool_sampler import PoolSampler
from otel_canonical.arbiter.reporter_process import ReporterProcess
from otel_canonical.django import setup as django_setup
from otel_canonical.event.output import LineWriter, open_line_writer
from otel_canonical.patching import when_imported
from otel_canonical.pool.counters import no_counts
from otel_canonical.pool.identity import (
    SUCCESSOR_VARIABLE,
    identity_attributes,
    pool_name,
    successor_of,
)
from otel_canonical.pool.ledger import Place, PoolLedger, PoolShape
from otel_canonical.request import log_ids
from otel_canonical.settings import read_settings
from otel_canonical.stacks import crash_dump

if TYPE_CHECKING:
    from otel_canonical.settings import Settings
    from otel_canonical.worker.runtime import WorkerRuntime


class _Process:
    """What this process has been set up for; a forked worker starts from the arbiter's copy."""

    def __init__(self) -> None:
        self.is_installed = False
        self.with_sdk = False
        self.settings: Settings | None = None
        self.line_writer: LineWriter | None = None
        #: The lines that the arbiter itself has written.
        self.counts = no_counts()
        self.arbiter_pid = 0
        self.pool_name = ""
        self.ledger: PoolLedger | None = None
        self.pool_sampler: PoolSampler | None = None
        self.lost_requests: LostRequests | None = None
        self.reporter: ReporterProcess | None = None
        self.place: Place | None = None
        self.worker_pid: int | None = None
        self.runtime: WorkerRuntime | None = None


_process = _Process()


def install(*, with_sdk: bool) -> None:
    """Wait for a Gunicorn in this process. Safe to call by every door, and again.

    Args:
        with_sdk: whether workers set the SDK up; False leaves that to another distro.
    """
    _process.with_sdk = _process.with_sdk or with_sdk
    if _process.is_installed:
        return
    _process.is_installed = True
    logging.getLogger("opentelemetry.instrumentation.auto_instrumentation._load").addFilter(
        _is_worth_saying
    )
    when_imported("gunicorn.arbiter", lambda module: gunicorn.wrap_arbiter(module, _roles))
    when_imported("gunicorn.workers.base", lambda module: gunicorn.wrap_worker(module, _roles))


def is_worker() -> bool:
    """Return whether this process is a worker that has been started."""
    return _process.worker_pid == os.getpid()


def sets_sdk_up() -> bool:
    """Return whether the SDK is ours to set up, in workers; if not, another distro does so at once."""
    return _process.with_sdk


def exports_app_logs() -> bool:
    """Return whether the app's log records are exported, and by us."""
    return (
        _process.settings is not None
        and _process.settings.app_logs
        and _process.with_sdk
        and otel_config.exports("logs")
        and not otel_config.is_sdk_log_handler_enabled()
    )


def resource_attributes() -> dict[str, str | int]:
    """Return what every signal says about us and, in a worker, about who it is.

    (Semantic conventions, "Telemetry Distro" and "Service".)
    """
    found: dict[str, str | int] = {
        "telemetry.distro.name": "otel-canonical",
        "telemetry.distro.version": __version__,
    }
    if is_worker() and _process.place is not None:
        number = _process.place.number
        found |= identity_attributes(_process.pool_name, number, os.environ)
    return found


class _Roles:
    """What we do in Gunicorn's processes; see `gunicorn.ProcessRoles`."""

    def before_arbiter_setup(self) -> None:
        code_snapshot.keep()
        django_setup.watch(with_spans=True)
        log_ids.install()

    def after_arbiter_setup(self, arbiter: Any) -> None:
        _process.arbiter_pid = os.getpid()
        cfg = arbiter.cfg
        settings = read_settings(os.environ, arbiter.log.warning)
        previous, _process.settings = _process.settings, settings
        if _process.lost_requests is not None or settings.enabled:
            # Switched off by a reload: workers of before it still die.
            gunicorn.chain_hooks(cfg, self)
        if not settings.enabled:
            if _process.reporter is not None:
                _process.reporter.close()
            return
        former = _process.line_writer
        if former is None or previous != settings:
            _process.line_writer = open_line_writer(
                settings, cfg, _process.counts, arbiter.log.warning
            )
        assert _process.line_writer is not None
        emit = _process.line_writer.emit
        exports = {
            "exports_logs": settings.log_events != "false" and otel_config.exports("logs"),
            "exports_metrics": settings.pool_metrics and otel_config.exports("metrics"),
        }
        if _process.ledger is not None:
            _process.ledger.reshape(_shape(cfg))
        if _process.lost_requests is not None:
            _process.lost_requests.reconfigure(settings, emit)
        if _process.pool_sampler is not None:
            _process.pool_sampler.reconfigure(settings, emit)
        if _process.reporter is not None:
            _process.reporter.reconfigure(**exports)
            if former is not None and former is not _process.line_writer:
                # Not before: Gunicorn 23 buries in a signal handler. Workers have theirs.
                former.output.close()
            return
        _process.reporter = reporter = ReporterProcess(**exports, arguments=_reporter_arguments)
        _process.ledger = ledger = PoolLedger(_shape(cfg), _process.counts)
        _process.lost_requests = lost_requests = LostRequests(settings, ledger, emit, reporter.send)
        _process.pool_sampler = PoolSampler(
            settings, ledger, emit, lost_requests.pids, reporter.send_sample
        )
        gunicorn.after_reopening_files(arbiter.log, _reopen)
        arbiter.log.info(
            "otel-canonical %s: one %s line per request on %s; %s",
            __version__,
            settings.format,
            _process.line_writer.output.target,
            otel_config.describe(),
        )
        if not crash_dump.is_supported():
            arbiter.log.info("otel-canonical: no memfd here; crashed requests have no location")

    def before_fork(self, worker: Any) -> None:
        _process.pool_name = _pool_name(worker)
        _process.place = None
        if _process.lost_requests is not None and _is_enabled():
            _process.place = _process.lost_requests.assign(worker)

    def before_signal(self, pid: int, number: int) -> None:
        if _process.lost_requests is not None:
            _process.lost_requests.note_signal(pid, number)

    def after_wait(self, pid: int, status: int) -> None:
        if _process.reporter is not None:
            _process.reporter.note_death(pid)
        if _process.lost_requests is not None:
            _process.lost_requests.note_status(pid, status)

    def after_death(self, worker: Any) -> None:
        if _process.lost_requests is not None:
            _process.lost_requests.close_worker(worker)

    def each_second(self, arbiter: Any) -> None:
        settings = _process.settings
        if _process.pool_sampler is not None and settings is not None and settings.enabled:
            _process.pool_sampler.look(arbiter)

    def before_arbiter_exit(self, arbiter: Any) -> None:
        if _process.lost_requests is not None:
            _process.lost_requests.close_all_workers(arbiter.WORKERS.values())
        settings = _process.settings
        if _process.pool_sampler is None or _process.reporter is None or settings is None:
            return
        _process.pool_sampler.look(arbiter, is_last=True)
        _process.reporter.leave(settings.flush_seconds)

    def before_successor(self, arbiter: Any) -> None:
        # The new arbiter starts from the environment that this one was started in.
        environ = arbiter.cfg.env_orig
        environ[SUCCESSOR_VARIABLE] = successor_of(environ)

    def start_dirty_arbiter(self) -> None:
        if _process.lost_requests is not None:
            _process.lost_requests.close_others(None)

    def start_worker(self, worker: Any) -> None:
        settings, line_writer = _process.settings, _process.line_writer
        if settings is None or line_writer is None or not _is_enabled() or is_worker():
            return
        _process.worker_pid = os.getpid()
        if _process.lost_requests is not None:
            _process.lost_requests.close_others(worker)
        from otel_canonical.worker.runtime import WorkerRuntime

        _process.runtime = WorkerRuntime(
            *(worker, settings, line_writer, _process.place),
            with_sdk=_process.with_sdk,
            with_app_logs=exports_app_logs(),
        )
        hooks = _process.runtime.request_hooks
        if hooks is not None:
            gunicorn.chain_request_hooks(worker.cfg, *hooks)

    def worker_is_ready(self, worker: Any) -> None:
        if _process.runtime is not None:
            _process.runtime.is_ready()

    def abort_worker(self, worker: Any) -> None:
        if _process.runtime is not None:
            _process.runtime.abort()

    def exit_worker(self, worker: Any) -> None:
        if is_worker():
            if _process.runtime is not None:
                _process.runtime.leave()
        elif _process.arbiter_pid == os.getpid() and _process.lost_requests is not None:
            # A worker that somebody else has reaped: Gunicorn's `child_exit` never comes.
            _process.lost_requests.close_worker(worker)


_roles = _Roles()


def _shape(cfg: Any) -> PoolShape:
    """Return how many requests a worker can have open at once, how many workers there are."""
    kind = cfg.worker_class_str
    slots = int(cfg.threads) if kind in ("sync", "gthread") else None
    return PoolShape(slots, cfg.workers, has_queues=kind == "gthread")


def _pool_name(worker: Any) -> str:
    # With --reuse-port the workers make their sockets themselves, later.
    binds = [listener.getsockname() for listener in worker.sockets] or worker.cfg.address
    return pool_name(socket.gethostname(), binds, os.environ)


def _reporter_arguments() -> list[str]:
    return [_process.pool_name]


def _is_enabled() -> bool:
    return _process.settings is not None and _process.settings.enabled


def _reopen() -> None:
    if _process.line_writer is not None:
        _process.line_writer.output.reopen()


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Drop the warning that another distro's configurator was not loaded: that is as it should be."""
    return not (
        str(record.msg).startswith("Configuration of %s not loaded")
        and "otel_canonical" in (record.args or ())
    )
