"""Who does what in which process; the file to read first.

the door  `install`, in whatever process a door is opened: wait for a Gunicorn.
arbiter   its set-up, at the start and after SIGHUP: settings read, hooks chained. Then berths before
          forks and obituaries after deaths. No SDK, no thread, no Django.
worker    after the fork and before the app: `worker_rooms`.
the app   `django_watch`, where the app is loaded.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import wrapt

from otel_canonical import (
    django_watch,
    emitters,
    export_choice,
    gunicorn_arbiter,
    log_ids,
    package_code,
    pool_identity,
    stack_recorder,
)
from otel_canonical import settings as settings_room
from otel_canonical._version import __version__
from otel_canonical.emitters import LineEmitter
from otel_canonical.obituary import Berth, Obituaries
from otel_canonical.page_words import no_counts
from otel_canonical.pool_ledger import PoolLedger, PoolShape
from otel_canonical.pool_watch import PoolWatch
from otel_canonical.reporter_link import ReporterLink

if TYPE_CHECKING:
    from otel_canonical.settings import Settings
    from otel_canonical.worker_rooms import WorkerRooms


class _Process:
    """What this process has been set up for; a forked worker starts from the arbiter's copy."""

    def __init__(self) -> None:
        self.is_installed = False
        self.with_sdk = False
        self.settings: Settings | None = None
        self.emitter: LineEmitter | None = None
        #: The lines that the arbiter itself has written.
        self.counts = no_counts()
        self.arbiter_pid = 0
        self.pool_name = ""
        self.ledger: PoolLedger | None = None
        self.pool_watch: PoolWatch | None = None
        self.obituaries: Obituaries | None = None
        self.reporter: ReporterLink | None = None
        self.berth: Berth | None = None
        self.worker_pid: int | None = None
        self.rooms: WorkerRooms | None = None


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
    wrapt.register_post_import_hook(
        lambda module: gunicorn_arbiter.wrap_arbiter(module, _roles), "gunicorn.arbiter"
    )
    wrapt.register_post_import_hook(
        lambda module: gunicorn_arbiter.wrap_worker(module, _roles), "gunicorn.workers.base"
    )


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
        and export_choice.exports("logs")
        and not export_choice.is_sdk_log_handler_enabled()
    )


def resource_attributes() -> dict[str, str | int]:
    """Return what every signal says about us and, in a worker, about who it is.

    (Semantic conventions, "Telemetry Distro" and "Service".)
    """
    found: dict[str, str | int] = {
        "telemetry.distro.name": "otel-canonical",
        "telemetry.distro.version": __version__,
    }
    if is_worker() and _process.berth is not None:
        number = _process.berth.number
        found |= pool_identity.attributes(_process.pool_name, number, os.environ)
    return found


class _Roles:
    """What we do in Gunicorn's processes; see `gunicorn_arbiter.ProcessRoles`."""

    def before_arbiter_setup(self) -> None:
        package_code.keep()
        django_watch.watch(with_spans=True)
        log_ids.install()

    def after_arbiter_setup(self, arbiter: Any) -> None:
        _process.arbiter_pid = os.getpid()
        cfg = arbiter.cfg
        settings = settings_room.read(os.environ, arbiter.log.warning)
        previous, _process.settings = _process.settings, settings
        if _process.obituaries is not None or settings.enabled:
            # Switched off by a reload: workers of before it still die.
            gunicorn_arbiter.chain_hooks(cfg, self)
        if not settings.enabled:
            if _process.reporter is not None:
                _process.reporter.close()
            return
        former = _process.emitter
        if former is None or previous != settings:
            _process.emitter = emitters.open_as(settings, cfg, _process.counts, arbiter.log.warning)
        assert _process.emitter is not None
        emit = _process.emitter.emit
        exports = {
            "exports_logs": settings.log_events != "false" and export_choice.exports("logs"),
            "exports_metrics": settings.pool_metrics and export_choice.exports("metrics"),
        }
        if _process.ledger is not None:
            _process.ledger.reshape(_shape(cfg))
        if _process.obituaries is not None:
            _process.obituaries.reconfigure(settings, emit)
        if _process.pool_watch is not None:
            _process.pool_watch.reconfigure(settings, emit)
        if _process.reporter is not None:
            _process.reporter.reconfigure(**exports)
            if former is not None and former is not _process.emitter:
                # Not before: Gunicorn 23 buries in a signal handler. Workers have theirs.
                former.output.close()
            return
        _process.reporter = reporter = ReporterLink(**exports, arguments=_reporter_arguments)
        _process.ledger = ledger = PoolLedger(_shape(cfg), _process.counts)
        _process.obituaries = obituaries = Obituaries(settings, ledger, emit, reporter.send)
        _process.pool_watch = PoolWatch(
            settings, ledger, emit, obituaries.pids, reporter.send_sample
        )
        gunicorn_arbiter.after_reopening_files(arbiter.log, _reopen)
        arbiter.log.info(
            "otel-canonical %s: one %s line per request on %s; %s",
            __version__,
            settings.format,
            _process.emitter.output.target,
            export_choice.describe(),
        )
        if not stack_recorder.is_supported():
            arbiter.log.info("otel-canonical: no memfd here; crashed requests have no location")

    def before_fork(self, worker: Any) -> None:
        _process.pool_name = _pool_name(worker)
        _process.berth = None
        if _process.obituaries is not None and _is_enabled():
            _process.berth = _process.obituaries.assign(worker)

    def before_signal(self, pid: int, number: int) -> None:
        if _process.obituaries is not None:
            _process.obituaries.note_signal(pid, number)

    def after_wait(self, pid: int, status: int) -> None:
        if _process.reporter is not None:
            _process.reporter.note_death(pid)
        if _process.obituaries is not None:
            _process.obituaries.note_status(pid, status)

    def after_death(self, worker: Any) -> None:
        if _process.obituaries is not None:
            _process.obituaries.bury(worker)

    def each_second(self, arbiter: Any) -> None:
        settings = _process.settings
        if _process.pool_watch is not None and settings is not None and settings.enabled:
            _process.pool_watch.look(arbiter)

    def before_arbiter_exit(self, arbiter: Any) -> None:
        if _process.obituaries is not None:
            _process.obituaries.bury_all(arbiter.WORKERS.values())
        settings = _process.settings
        if _process.pool_watch is None or _process.reporter is None or settings is None:
            return
        _process.pool_watch.look(arbiter, is_last=True)
        _process.reporter.leave(settings.flush_seconds)

    def before_successor(self, arbiter: Any) -> None:
        # The new arbiter starts from the environment that this one was started in.
        environ = arbiter.cfg.env_orig
        environ[pool_identity.SUCCESSOR_VARIABLE] = pool_identity.successor_of(environ)

    def start_dirty_arbiter(self) -> None:
        if _process.obituaries is not None:
            _process.obituaries.leave_to(None)

    def start_worker(self, worker: Any) -> None:
        settings, emitter = _process.settings, _process.emitter
        if settings is None or emitter is None or not _is_enabled() or is_worker():
            return
        _process.worker_pid = os.getpid()
        if _process.obituaries is not None:
            _process.obituaries.leave_to(worker)
        from otel_canonical.worker_rooms import WorkerRooms

        _process.rooms = WorkerRooms(
            *(worker, settings, emitter, _process.berth),
            with_sdk=_process.with_sdk,
            with_app_logs=exports_app_logs(),
        )
        hooks = _process.rooms.request_hooks
        if hooks is not None:
            gunicorn_arbiter.chain_request_hooks(worker.cfg, *hooks)

    def worker_is_ready(self, worker: Any) -> None:
        if _process.rooms is not None:
            _process.rooms.is_ready()

    def abort_worker(self, worker: Any) -> None:
        if _process.rooms is not None:
            _process.rooms.abort()

    def exit_worker(self, worker: Any) -> None:
        if is_worker():
            if _process.rooms is not None:
                _process.rooms.leave()
        elif _process.arbiter_pid == os.getpid() and _process.obituaries is not None:
            # A worker that somebody else has reaped: Gunicorn's `child_exit` never comes.
            _process.obituaries.bury(worker)


_roles = _Roles()


def _shape(cfg: Any) -> PoolShape:
    """Return how many requests a worker can have open at once, how many workers there are."""
    kind = cfg.worker_class_str
    slots = int(cfg.threads) if kind in ("sync", "gthread") else None
    return PoolShape(slots, cfg.workers, has_queues=kind == "gthread")


def _pool_name(worker: Any) -> str:
    # With --reuse-port the workers make their sockets themselves, later.
    binds = [listener.getsockname() for listener in worker.sockets] or worker.cfg.address
    return pool_identity.pool_name(socket.gethostname(), binds, os.environ)


def _reporter_arguments() -> list[str]:
    return [_process.pool_name]


def _is_enabled() -> bool:
    return _process.settings is not None and _process.settings.enabled


def _reopen() -> None:
    if _process.emitter is not None:
        _process.emitter.output.reopen()


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Drop the warning that another distro's configurator was not loaded: that is as it should be."""
    return not (
        str(record.msg).startswith("Configuration of %s not loaded")
        and "otel_canonical" in (record.args or ())
    )
