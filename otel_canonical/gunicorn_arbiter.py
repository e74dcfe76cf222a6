"""The seam to Gunicorn in the arbiter: our way into every worker, whichever way Gunicorn was started.

The arbiter itself stays as it was: here hooks are chained and functions wrapped, nothing runs until a
worker does. Gunicorn calls `Arbiter.setup` with a fresh configuration at the start and after each
SIGHUP; a user's own hooks keep running, before or after ours.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Protocol

from otel_canonical.fence import Fence

_MARK = "__otel_canonical__"


class ProcessRoles(Protocol):
    """What we do in Gunicorn's processes; called at the moments this module finds."""

    def before_arbiter_setup(self) -> None:
        """Run before Gunicorn reads its configuration and, with `--preload`, loads the app."""

    def after_arbiter_setup(self, arbiter: Any) -> None:
        """Run when configuration and environment are as the workers will see them."""

    def start_worker(self, worker: Any) -> None:
        """Run in the worker, after the fork and before the app is loaded; may be called twice."""

    def exit_worker(self, worker: Any) -> None:
        """Run in the worker when it leaves."""

    def pre_request(self, worker: Any, req: Any) -> None:
        """Run when a request has been accepted."""

    def post_request(
        self, worker: Any, environ: Any, resp: Any, error: BaseException | None
    ) -> None:
        """Run when a request has been served, or has failed with `error`."""


def wrap_arbiter(module: Any, roles: ProcessRoles) -> None:
    """Wrap `gunicorn.arbiter.Arbiter.setup`. Wrapping twice is wrapping once."""
    setup = module.Arbiter.setup
    if hasattr(setup, _MARK):
        return

    @functools.wraps(setup)
    def setup_and_chain(arbiter: Any, app: Any) -> None:
        with Fence("preparing the arbiter"):
            roles.before_arbiter_setup()
        setup(arbiter, app)
        with Fence("chaining Gunicorn's hooks"):
            roles.after_arbiter_setup(arbiter)

    setattr(setup_and_chain, _MARK, True)
    module.Arbiter.setup = setup_and_chain


def wrap_worker(module: Any, roles: ProcessRoles) -> None:
    """Wrap `gunicorn.workers.base.Worker.init_process`.

    It is the one moment that all worker classes share after the fork and, for gevent, after its
    monkey-patching, but before the app is loaded.
    """
    init_process = module.Worker.init_process
    if hasattr(init_process, _MARK):
        return

    @functools.wraps(init_process)
    def start_and_init_process(worker: Any) -> None:
        with Fence("starting in a worker"):
            roles.start_worker(worker)
        init_process(worker)

    setattr(start_and_init_process, _MARK, True)
    module.Worker.init_process = start_and_init_process


def chain_hooks(cfg: Any, roles: ProcessRoles) -> None:
    """Put our hooks around the user's in a Gunicorn configuration. Chaining twice is chaining once."""

    def post_fork(user: Callable[..., Any] | None) -> Callable[..., Any]:
        def ours(server: Any, worker: Any) -> None:
            # A gevent worker patches the standard library later; until then nothing may be imported.
            if not hasattr(worker, "patch"):
                with Fence("starting in a worker"):
                    roles.start_worker(worker)
            if user is not None:
                user(server, worker)

        return ours

    def pre_request(user: Callable[..., Any] | None) -> Callable[..., Any]:
        def ours(worker: Any, req: Any) -> None:
            roles.pre_request(worker, req)
            if user is not None:
                user(worker, req)

        return ours

    def post_request(user: Callable[..., Any] | None) -> Callable[..., Any]:
        def ours(worker: Any, req: Any, environ: Any, resp: Any) -> None:
            error = sys.exc_info()[1]
            try:
                if user is not None:
                    user(worker, req, environ, resp)
            finally:
                roles.post_request(worker, environ, resp, error)

        return ours

    def worker_exit(user: Callable[..., Any] | None) -> Callable[..., Any]:
        def ours(server: Any, worker: Any) -> None:
            try:
                if user is not None:
                    user(server, worker)
            finally:
                with Fence("leaving a worker"):
                    roles.exit_worker(worker)

        return ours

    for chain in (post_fork, pre_request, post_request, worker_exit):
        _chain(cfg, chain.__name__, chain)


def _chain(
    cfg: Any, name: str, around: Callable[[Callable[..., Any] | None], Callable[..., Any]]
) -> None:
    setting = cfg.settings[name]
    user = setting.get()
    if hasattr(user, _MARK):
        return
    ours = around(None if user is setting.default else user)
    setattr(ours, _MARK, True)
    cfg.set(name, ours)
