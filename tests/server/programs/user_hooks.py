"""A Gunicorn configuration that defines every hook; each notes its name in the file HOOKS_LOG.

STAR_IMPORT says where the other way in stands: `before` the hooks, `after` them, or nowhere.
POST_REQUEST says how many parameters `post_request` takes. A request for `/pre-request-raises/` or
`/post-request-raises/` fails in that hook.
"""

from __future__ import annotations

import os

import otel_canonical

if os.environ.get("STAR_IMPORT") == "before":
    from otel_canonical.gunicorn_hooks import *  # noqa: F403


def note(name):
    with open(os.environ["HOOKS_LOG"], "a") as log:
        log.write(f"{name}\n")


def on_starting(server):
    note("on_starting")


def on_reload(server):
    note("on_reload")


def when_ready(server):
    note("when_ready")


def pre_fork(server, worker):
    note("pre_fork")


def post_fork(server, worker):
    note("post_fork")


def post_worker_init(worker):
    note("post_worker_init")


def worker_int(worker):
    note("worker_int")


def worker_abort(worker):
    note("worker_abort")


def child_exit(server, worker):
    note("child_exit")


def worker_exit(server, worker):
    note("worker_exit")


def nworkers_changed(server, new_value, old_value):
    note("nworkers_changed")


def on_exit(server):
    note("on_exit")


def pre_request(worker, req):
    note("pre_request")
    otel_canonical.set("before", req.path)
    if req.path == "/pre-request-raises/":
        raise ValueError("in pre_request")


def after(req):
    note("post_request")
    otel_canonical.set("after", req.path)
    if req.path == "/post-request-raises/":
        raise ValueError("in post_request")


def with_two(worker, req):
    after(req)


def with_three(worker, req, environ):
    after(req)


def with_four(worker, req, environ, resp):
    after(req)
    if resp is not None:
        otel_canonical.set("status", resp.status_code)


post_request = {"2": with_two, "3": with_three, "4": with_four}[os.environ.get("POST_REQUEST", "4")]

if os.environ.get("STAR_IMPORT") == "after":
    from otel_canonical.gunicorn_hooks import *  # noqa: F403
