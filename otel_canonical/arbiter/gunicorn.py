"""Adapter for Gunicorn's arbiter: chains its hooks and patches its steps, at every start and reload.

Gunicorn calls `Arbiter.setup` with a fresh configuration at the start and after each SIGHUP. A user's own
hooks keep running, before or after ours. Nothing here imports Gunicorn.
"""

from __future__ import annotations

import functools
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from otel_canonical.internal_errors import current_error, guarded
from otel_canonical.patching import patch, wrapped
from otel_canonical.process import error_log

Hook = Callable[..., None]


class ArbiterObserver(Protocol):
    """What is told of an arbiter's steps."""

    def note_signal(self, pid: int, number: int) -> None:
        """Run before the arbiter sends a signal to a worker."""

    def note_status(self, pid: int, status: int) -> None:
        """Run when `os.waitpid` has told the arbiter how a child of its has ended."""

    def sample_pool(self, arbiter: Any) -> None:
        """Run by the arbiter's loops, also that of a reload or a stop, once a second or more often."""


def wrap_setup(module: Any, before: Callable[[], None], after: Callable[[Any], None]) -> None:
    """Patch `gunicorn.arbiter.Arbiter.setup`, which reads the configuration. Twice is once.

    Args:
        module: `gunicorn.arbiter`.
        before: runs before the configuration is read and, with `--preload`, the app is loaded.
        after: runs with the arbiter when configuration and environment are as workers will see them.
    """

    def chaining_hooks(setup: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def setup_and_chain(arbiter: Any, app: Any) -> None:
            with guarded("preparing the arbiter"):
                before()
            setup(arbiter, app)
            with guarded("chaining Gunicorn's hooks"):
                after(arbiter)

        return setup_and_chain

    patch(module.Arbiter, "setup", chaining_hooks)


def observe_arbiter(observer: ArbiterObserver) -> None:
    """Tell `observer` of the steps of this process's arbiter, from now on."""

    def noting_signal(
        kill_worker: Callable[[Any, int, int], None],
    ) -> Callable[[Any, int, int], None]:
        def note_and_kill_worker(arbiter: Any, pid: int, sig: int) -> None:
            with guarded("noting a signal"):
                observer.note_signal(pid, sig)
            kill_worker(arbiter, pid, sig)

        return note_and_kill_worker

    def sampling_pool(step: Callable[[Any], None]) -> Callable[[Any], None]:
        def sample_and_take_step(arbiter: Any) -> None:
            with guarded("sampling the pool"):
                observer.sample_pool(arbiter)
            step(arbiter)

        return sample_and_take_step

    module: Any = sys.modules["gunicorn.arbiter"]
    patch(module, "os", lambda real: _ObservedOs(real, observer.note_status))
    patch(module.Arbiter, "kill_worker", noting_signal)
    patch(module.Arbiter, "murder_workers", sampling_pool)
    patch(module.Arbiter, "reap_workers", sampling_pool)


class _ObservedOs:
    """The module `os` as Gunicorn's arbiter sees it, with an observed `waitpid`.

    Gunicorn reaps with `os.waitpid(-1, ...)` and keeps the status to itself. Asking the kernel
    beforehand would miss workers that die between the question and the reaping.
    """

    def __init__(self, real: Any, told: Callable[[int, int], None]) -> None:
        self._real = real
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        """Wait as `os.waitpid` does, and pass on the status of a child that has ended."""
        found: tuple[int, int] = self._real.waitpid(pid, options)
        if found[0]:
            with guarded("noting how a worker died"):
                self._told(*found)
        return found


def wrap_worker(module: Any, start: Callable[[Any], None]) -> None:
    """Have `start` called with each worker before `gunicorn.workers.base.Worker.init_process`.

    That is the one moment that all worker classes share: after the fork and, for gevent, after its
    monkey-patching, but before the app is loaded.
    """

    def starting(init_process: Callable[[Any], None]) -> Callable[[Any], None]:
        def start_and_init_process(worker: Any) -> None:
            with guarded("starting in a worker"):
                start(worker)
            init_process(worker)

        return start_and_init_process

    patch(module.Worker, "init_process", starting)


def heed_signals(worker: Any) -> None:
    """Let a worker react to its signals while we start in it; called right after the fork.

    Until `Worker.init_signals` it has the arbiter's handlers, which in a worker do nothing. A SIGTERM
    that is lost makes Gunicorn wait its `graceful_timeout` and kill; after a lost SIGUSR1 the worker
    writes on into files that were rotated away. In bare Gunicorn that gap is a millisecond (longer
    while gevent patches); our start would make it a hundred.
    """

    def leave_soon(signal_number: int, frame: Any) -> None:
        worker.alive = False

    def leave_now(signal_number: int, frame: Any) -> None:
        sys.exit(0)

    def reopen_files(signal_number: int, frame: Any) -> None:
        worker.log.reopen_files()

    signal.signal(signal.SIGTERM, leave_soon)
    signal.signal(signal.SIGUSR1, reopen_files)
    signal.signal(signal.SIGINT, leave_now)
    signal.signal(signal.SIGQUIT, leave_now)


def after_reopening_files(log: Any, reopen: Callable[[], None]) -> None:
    """Have `reopen` called whenever Gunicorn reopens its log files: on SIGUSR1, in every process."""

    def reopening_ours(reopen_files: Callable[[], None]) -> Callable[[], None]:
        def reopen_all_files() -> None:
            reopen_files()
            with guarded("reopening the output"):
                reopen()

        return reopen_all_files

    patch(log, "reopen_files", reopening_ours)


def unblock_error_log(is_same_file: Callable[[int], bool]) -> None:
    """Have Gunicorn's messages given up, not waited for, where our lines may have filled their pipe.

    Args:
        is_same_file: whether what is written to a descriptor goes where our lines go.
    """
    for handler in logging.getLogger("gunicorn.error").handlers:
        if error_log.writes_to(handler, is_same_file):
            patch(handler, "emit", functools.partial(error_log.unblocked, handler))


def leave_if_told(worker: Any) -> None:
    """Leave if SIGTERM came while the worker started. Not every class looks: tornado's doesn't.

    Raises:
        SystemExit: the worker was told to leave.
    """
    if not worker.alive:
        sys.exit(0)


def chain_hooks(cfg: Any, before: Mapping[str, Hook], after: Mapping[str, Hook]) -> None:
    """Put our hooks around the user's in a Gunicorn configuration. Chaining twice is chaining once.

    Args:
        cfg: the configuration. A hook that this version of Gunicorn lacks is skipped.
        before: runs before the user's hook of the same name.
        after: runs after it, also if it raises.
    """
    for name, hook in before.items():
        _chain(cfg, name, before=hook)
    for name, hook in after.items():
        _chain(cfg, name, after=hook)


def _chain(
    cfg: Any,
    name: str,
    before: Hook | None = None,
    after: Hook | None = None,
) -> None:
    doing = f"the hook {name}"

    def chaining(user: Hook) -> Hook:
        def ours_and_users(*args: Any) -> None:
            try:
                if before is not None:
                    with guarded(doing):
                        before(*args)
                user(*args)
            finally:
                if after is not None:
                    with guarded(doing):
                        after(*args)

        return ours_and_users

    setting = cfg.settings.get(name)
    user = setting.get() if setting is not None else None
    if user is not None:
        # Gunicorn checks how many parameters a hook takes: it is shown those of its own default.
        cfg.set(name, wrapped(user, chaining, looks_like=setting.default))


def chain_request_hooks(
    cfg: Any,
    accepted: Callable[[Any, Any], None],
    ended: Callable[[Any, Any, BaseException | None], None],
) -> None:
    """Put the hooks of each request around the user's (in a worker: its configuration is its own).

    They run for every request: without a user's hook nothing stands between Gunicorn and ours.

    Args:
        cfg: the worker's configuration.
        accepted: the hook `pre_request`.
        ended: told of a request's environ, response, and the error on its way through Gunicorn, if
            any; `post_request` runs in a `finally`.
    """
    before, after = cfg.settings["pre_request"], cfg.settings["post_request"]
    user_before, user_after = before.get(), after.get()

    def accepted_and_users(worker: Any, req: Any) -> None:
        accepted(worker, req)
        user_before(worker, req)

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        ended(environ, resp, current_error())

    def users_and_post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        error = current_error()
        try:
            user_after(worker, req, environ, resp)
        finally:
            ended(environ, resp, error)

    cfg.set("pre_request", accepted if user_before is before.default else accepted_and_users)
    cfg.set("post_request", post_request if user_after is after.default else users_and_post_request)
