"""Which of our parts runs in which process; the file to read first.

any process  `install`: wait until Gunicorn is imported. Outside Gunicorn nothing more happens.
arbiter      after its set-up, at the start and after SIGHUP: settings are read, Gunicorn's hooks chained
             (`arbiter.arbiter`). No SDK, no thread, no Django.
worker       after the fork and before the app: `worker.runtime`.
the app      wherever it is loaded: `django.setup`.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_canonical import otel_config
from otel_canonical.arbiter import code_snapshot, gunicorn, settings_check
from otel_canonical.arbiter.arbiter import ArbiterSide
from otel_canonical.django import setup as django_setup
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.internal_errors import warn
from otel_canonical.otel_environment import exports, variables
from otel_canonical.patching import when_imported
from otel_canonical.pool import identity
from otel_canonical.process import identity as process_identity
from otel_canonical.process.identity import own
from otel_canonical.request import log_ids
from otel_canonical.settings import read_settings
from otel_canonical.stacks.errors import report_with

if TYPE_CHECKING:
    from otel_canonical.worker.runtime import WorkerRuntime


@dataclass(slots=True)
class _Process:
    """What this process has been set up for; a forked worker starts from the arbiter's copy."""

    is_installed: bool = False
    #: Whether workers set the SDK up; False leaves that to another distro.
    with_sdk: bool = False
    #: In an arbiter and its children, once canonical lines were switched on.
    arbiter: ArbiterSide | None = None
    #: Whether this process, or the one that it was forked from, is a worker that has been started.
    is_worker: bool = False
    runtime: WorkerRuntime | None = None


_process = _Process()


def install(*, with_sdk: bool) -> None:
    """Wait for a Gunicorn in this process. Every way in may call it, and more than once.

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
    when_imported(
        "gunicorn.arbiter",
        lambda module: gunicorn.wrap_setup(module, _before_arbiter_setup, _after_arbiter_setup),
    )
    when_imported(
        "gunicorn.workers.base", lambda module: gunicorn.wrap_worker(module, _start_worker)
    )


def is_worker() -> bool:
    """Return whether this process is a worker that has been started."""
    return _process.is_worker and bool(own[0])


def sets_sdk_up() -> bool:
    """Return whether the SDK is ours to set up, in workers; if not, another distro does so at once."""
    return _process.with_sdk


def exports_app_logs() -> bool:
    """Return whether the app's log records are exported, and by us."""
    return (
        _process.arbiter is not None
        and _process.arbiter.settings.app_logs
        and _process.with_sdk
        and otel_config.exports("logs")
        and not otel_config.is_sdk_log_handler_enabled()
    )


def worker_identity() -> dict[str, str | int]:
    """Return the resource attributes that tell this worker from the pool's others; else none.

    (Semantic conventions, "Service".)
    """
    side = _process.arbiter
    if not is_worker() or side is None or side.place is None:
        return {}
    return identity.identity_attributes(side.pool_name, side.place.number, os.environ)


def _before_arbiter_setup() -> None:
    """Run before Gunicorn reads its configuration and, with `--preload`, loads the app."""
    code_snapshot.keep()
    django_setup.watch(with_spans=True)
    log_ids.install()


def _after_arbiter_setup(arbiter: Any) -> None:
    """Run when configuration and environment are as the workers will see them; again after SIGHUP."""
    settings = read_settings(os.environ, arbiter.log.warning)
    report_with(RedactionPolicy(settings.redacted_names))
    settings = settings_check.checked(settings, arbiter.cfg, os.environ, arbiter.log.warning)
    if settings.enabled and _process.with_sdk:
        variables.mend(os.environ, arbiter.log.warning)
        exports.mend(os.environ, arbiter.log.warning)
    if _process.arbiter is not None:
        # Also when a reload has switched us off: workers of before it still die.
        _process.arbiter.reconfigure(arbiter, settings)
    elif settings.enabled:
        _process.arbiter = side = ArbiterSide(arbiter, settings)
        gunicorn.observe_arbiter(side)
        gunicorn.after_reopening_files(arbiter.log, side.reopen_output)
    if _process.arbiter is not None:
        _chain_hooks(arbiter.cfg, _process.arbiter)


def _chain_hooks(cfg: Any, side: ArbiterSide) -> None:
    gunicorn.chain_hooks(
        cfg,
        before={
            "pre_fork": side.pre_fork,
            "post_fork": _post_fork,
            "post_worker_init": _post_worker_init,
            "worker_abort": _worker_abort,
            "on_dirty_starting": side.on_dirty_starting,
        },
        after={
            "worker_exit": _worker_exit,
            "child_exit": side.child_exit,
            "on_exit": side.on_exit,
            "pre_exec": side.pre_exec,
        },
    )


def _post_fork(server: Any, worker: Any) -> None:
    gunicorn.heed_signals(worker)
    # A gevent worker patches the standard library later; until then nothing may be imported.
    if not hasattr(worker, "patch"):
        _start_worker(worker)


def _start_worker(worker: Any) -> None:
    """Start our half of a worker, after the fork and before the app is loaded; twice is once."""
    side = _process.arbiter
    if side is None or not side.settings.enabled or is_worker():
        return
    _process.is_worker = True
    process_identity.claim()
    side.become_worker(worker)
    _process.runtime = runtime = _runtime_class()(
        *(worker, side.settings, side.line_writer, side.place),
        with_sdk=_process.with_sdk,
        with_app_logs=exports_app_logs(),
    )
    if runtime.request_hooks is not None:
        gunicorn.chain_request_hooks(worker.cfg, *runtime.request_hooks)


def _runtime_class() -> type[WorkerRuntime]:
    """Import what a worker needs, and with it the SDK, which reads some variables when it is imported."""
    try:
        from otel_canonical.worker.runtime import WorkerRuntime
    except Exception as error:  # noqa: BLE001  # said; lines must not depend on the SDK
        warn(
            f"OpenTelemetry's SDK can't be loaded with these OTEL_* variables ({type(error).__name__}: "
            f"{error}); all of them are ignored, and nothing is exported"
        )
        otel_config.forget_variables()
        from otel_canonical.worker.runtime import WorkerRuntime
    return WorkerRuntime


def _post_worker_init(worker: Any) -> None:
    if _process.runtime is not None:
        _process.runtime.is_ready()
    gunicorn.leave_if_told(worker)


def _worker_abort(worker: Any) -> None:
    if _process.runtime is not None:
        _process.runtime.abort()


def _worker_exit(server: Any, worker: Any) -> None:
    if is_worker():
        if _process.runtime is not None:
            _process.runtime.shut_down()
    elif _process.arbiter is not None and own[0]:
        _process.arbiter.worker_reaped_elsewhere(worker)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Drop the warning that another distro's configurator was not loaded: that is as it should be."""
    return not (
        str(record.msg).startswith("Configuration of %s not loaded")
        and "otel_canonical" in (record.args or ())
    )
