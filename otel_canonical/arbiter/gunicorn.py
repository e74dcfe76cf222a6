"""Adapter for Gunicorn's arbiter: our way into every worker, however Gunicorn was started.

The arbiter itself stays as it was: here hooks are chained and functions wrapped, nothing runs until a
worker does. Gunicorn calls `Arbiter.setup` with a fresh configuration at the start and after each
SIGHUP; a user's own hooks keep running, before or after ours.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol

from otel_canonical.internal_errors import guarded
from otel_canonical.patching import patch, wrapped


class ProcessRoles(Protocol):
    """What we do in Gunicorn's processes; called at the moments this module finds.

    In the arbiter: `before_arbiter_setup`, `after_arbiter_setup`, `before_fork`, `before_signal`,
    `after_wait`, `after_death`, `each_second`, `before_arbiter_exit`, `before_successor`. In
    Gunicorn's dirty arbiter: `start_dirty_arbiter`. In a worker: the others.
    """

    def before_arbiter_setup(self) -> None:
        """Run before Gunicorn reads its configuration and, with `--preload`, loads the app."""

    def after_arbiter_setup(self, arbiter: Any) -> None:
        """Run when configuration and environment are as the workers will see them."""

    def before_fork(self, worker: Any) -> None:
        """Run before a worker is forked."""

    def before_signal(self, pid: int, number: int) -> None:
        """Run before the arbiter sends a signal to a worker."""

    def after_wait(self, pid: int, status: int) -> None:
        """Run when the arbiter was told that a child of its has died, and how."""

    def after_death(self, worker: Any) -> None:
        """Run after a dead worker was reaped."""

    def each_second(self, arbiter: Any) -> None:
        """Run by the arbiter's loops, also that of a reload or a stop, once a second or more often."""

    def before_arbiter_exit(self, arbiter: Any) -> None:
        """Run before the arbiter leaves, its workers killed but not all of them reaped."""

    def before_successor(self, arbiter: Any) -> None:
        """Run in a fork of the arbiter, before it becomes another arbiter beside it (SIGUSR2)."""

    def start_dirty_arbiter(self) -> None:
        """Run in the process that has just become the parent of dirty workers (Gunicorn >= 25)."""

    def start_worker(self, worker: Any) -> None:
        """Run after the fork and before the app is loaded; may be called twice."""

    def worker_is_ready(self, worker: Any) -> None:
        """Run after the app is loaded and Gunicorn's signal handlers are in place."""

    def abort_worker(self, worker: Any) -> None:
        """Run in the handler of SIGABRT: Gunicorn ends this worker because it was silent."""

    def exit_worker(self, worker: Any) -> None:
        """Run when the worker leaves."""


def wrap_arbiter(module: Any, roles: ProcessRoles) -> None:
    """Patch what `gunicorn.arbiter.Arbiter` does."""

    def chaining_hooks(setup: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def setup_and_chain(arbiter: Any, app: Any) -> None:
            with guarded("preparing the arbiter"):
                roles.before_arbiter_setup()
            setup(arbiter, app)
            with guarded("chaining Gunicorn's hooks"):
                roles.after_arbiter_setup(arbiter)

        return setup_and_chain

    def noting_signal(
        kill_worker: Callable[[Any, int, int], None],
    ) -> Callable[[Any, int, int], None]:
        def note_and_kill_worker(arbiter: Any, pid: int, sig: int) -> None:
            with guarded("noting a signal"):
                roles.before_signal(pid, sig)
            kill_worker(arbiter, pid, sig)

        return note_and_kill_worker

    def looking_at_pool(step: Callable[[Any], None]) -> Callable[[Any], None]:
        def look_and_take_step(arbiter: Any) -> None:
            with guarded("looking at the pool"):
                roles.each_second(arbiter)
            step(arbiter)

        return look_and_take_step

    patch(module.Arbiter, "setup", chaining_hooks)
    patch(module.Arbiter, "kill_worker", noting_signal)
    patch(module.Arbiter, "murder_workers", looking_at_pool)
    patch(module.Arbiter, "reap_workers", looking_at_pool)
    patch(module, "os", lambda real: _ObservedOs(real, roles.after_wait))


class _ObservedOs:
    """The module `os` as Gunicorn's arbiter sees it: all of it, with an ear at `waitpid`.

    Gunicorn reaps with `os.waitpid(-1, ...)` and keeps the status to itself. To ask the kernel before
    would miss those that die between the question and the reaping.
    """

    def __init__(self, real: Any, told: Callable[[int, int], None]) -> None:
        self._real = real
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        """Wait as `os.waitpid` does, and tell of who has died."""
        found: tuple[int, int] = self._real.waitpid(pid, options)
        if found[0]:
            with guarded("noting how a worker died"):
                self._told(*found)
        return found


def wrap_worker(module: Any, roles: ProcessRoles) -> None:
    """Patch `gunicorn.workers.base.Worker.init_process`.

    It is the one moment that all worker classes share after the fork and, for gevent, after its
    monkey-patching, but before the app is loaded.
    """

    def starting(init_process: Callable[[Any], None]) -> Callable[[Any], None]:
        def start_and_init_process(worker: Any) -> None:
            with guarded("starting in a worker"):
                roles.start_worker(worker)
            init_process(worker)

        return start_and_init_process

    patch(module.Worker, "init_process", starting)


def heed_signals(worker: Any) -> None:
    """Let a worker hear its signals while we start in it; called right after the fork.

    Until `Worker.init_signals` it has the arbiter's handlers, which in a worker do nothing: after a
    SIGTERM that is lost Gunicorn waits its `graceful_timeout` and kills, after a SIGUSR1 the worker
    goes on with files that were rotated away. Gunicorn is deaf like that for a millisecond, while
    gevent patches for some more; our start would make it a hundred.
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


def chain_hooks(cfg: Any, roles: ProcessRoles) -> None:
    """Put our hooks around the user's in a Gunicorn configuration. Chaining twice is chaining once."""

    def pre_fork(server: Any, worker: Any) -> None:
        roles.before_fork(worker)

    def post_fork(server: Any, worker: Any) -> None:
        heed_signals(worker)
        # A gevent worker patches the standard library later; until then nothing may be imported.
        if not hasattr(worker, "patch"):
            roles.start_worker(worker)

    def post_worker_init(worker: Any) -> None:
        roles.worker_is_ready(worker)
        if not worker.alive:
            # Told to leave meanwhile. Not every class would look: tornado's begins with "alive".
            sys.exit(0)

    def worker_exit(server: Any, worker: Any) -> None:
        roles.exit_worker(worker)

    def child_exit(server: Any, worker: Any) -> None:
        roles.after_death(worker)

    def on_dirty_starting(arbiter: Any) -> None:
        roles.start_dirty_arbiter()

    _chain(cfg, "pre_fork", before=pre_fork)
    _chain(cfg, "post_fork", before=post_fork)
    _chain(cfg, "post_worker_init", before=post_worker_init)
    _chain(cfg, "worker_abort", before=roles.abort_worker)
    _chain(cfg, "worker_exit", after=worker_exit)
    _chain(cfg, "child_exit", after=child_exit)
    _chain(cfg, "on_exit", after=roles.before_arbiter_exit)
    _chain(cfg, "pre_exec", after=roles.before_successor)
    if "on_dirty_starting" in cfg.settings:
        _chain(cfg, "on_dirty_starting", before=on_dirty_starting)


def _chain(
    cfg: Any,
    name: str,
    before: Callable[..., None] | None = None,
    after: Callable[..., None] | None = None,
) -> None:
    """Run ours before or, whatever happens to the user's, after it."""
    doing = f"the hook {name}"

    def chaining(user: Callable[..., None]) -> Callable[..., None]:
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

    setting = cfg.settings[name]
    # Gunicorn checks how many parameters a hook takes: it is shown those of its own default.
    cfg.set(name, wrapped(setting.get(), chaining, looks_like=setting.default))


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
        ended(environ, resp, sys.exc_info()[1])

    def users_and_post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        error = sys.exc_info()[1]
        try:
            user_after(worker, req, environ, resp)
        finally:
            ended(environ, resp, error)

    cfg.set("pre_request", accepted if user_before is before.default else accepted_and_users)
    cfg.set("post_request", post_request if user_after is after.default else users_and_post_request)
