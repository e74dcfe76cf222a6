"""Builds and joins the rooms, per process role; the only file that knows them all.

arbiter   `install` at the door; `before_arbiter_setup` and `after_arbiter_setup` from Gunicorn's own
          set-up: hooks are chained, settings read and complained about. No SDK, no thread, no Django.
worker    `start_worker` after the fork and before the app: SDK, instrumentations, log.
the app   `before_middleware` when Django loads its middleware: in the worker, with `--preload` in
          the arbiter, where it must not (and does not) need an SDK.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

import wrapt

from otel_canonical import export_choice, gunicorn_arbiter
from otel_canonical import settings as settings_room
from otel_canonical._version import __version__

if TYPE_CHECKING:
    from otel_canonical.gunicorn_seam import WorkerSeam
    from otel_canonical.root_span import RootSpans
    from otel_canonical.settings import Settings

#: The name under which DjangoInstrumentor makes its spans; the root span is made under it, for it.
DJANGO_INSTRUMENTATION = "opentelemetry.instrumentation.django"


class _Process:
    """What this process has been set up for; a forked worker starts from the arbiter's copy."""

    def __init__(self) -> None:
        self.is_installed = False
        self.watches_django = False
        self.with_sdk = False
        self.settings: Settings | None = None
        self.has_said_what_it_does = False
        self.worker_pid: int | None = None
        self.seam: WorkerSeam | None = None


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


def resource_attributes() -> dict[str, str]:
    """Return what every signal says about us (semantic conventions, "Telemetry Distro")."""
    return {"telemetry.distro.name": "otel-canonical", "telemetry.distro.version": __version__}


def watch_django() -> None:
    """Wrap Django's handler and caches as soon as somebody imports them."""
    if _process.watches_django:
        return
    _process.watches_django = True
    wrapt.register_post_import_hook(_wrap_handler, "django.core.handlers.base")
    wrapt.register_post_import_hook(_wrap_caches, "django.core.cache")


def before_middleware() -> None:
    """Wrap the rest of Django; its settings are final now."""
    from otel_canonical import django_handler, django_queries, django_templates

    django_handler.wrap_exception_handling(importlib.import_module("django.core.handlers.exception"))
    django_templates.wrap_template(importlib.import_module("django.template.base"))
    django_queries.wrap_connect(importlib.import_module("django.db.backends.base.base"))
    django_queries.watch_connections()
    exports_metrics = export_choice.exports("metrics")
    if (
        _process.is_installed
        and (exports_metrics or export_choice.exports("traces"))
        and not export_choice.is_instrumentation_disabled("django")
    ):
        from otel_canonical import django_tracing

        django_tracing.instrument(steps_aside=not exports_metrics)


class _Roles:
    """What we do in Gunicorn's processes; see `gunicorn_arbiter.ProcessRoles`."""

    def before_arbiter_setup(self) -> None:
        watch_django()

    def after_arbiter_setup(self, arbiter: Any) -> None:
        settings = settings_room.read(os.environ, arbiter.log.warning)
        _process.settings = settings
        if not settings.enabled:
            return
        gunicorn_arbiter.chain_hooks(arbiter.cfg, self)
        if not _process.has_said_what_it_does:
            _process.has_said_what_it_does = True
            arbiter.log.info(
                "otel-canonical %s: one %s line per request on %s; %s",
                __version__,
                settings.format,
                settings.output,
                export_choice.describe(),
            )

    def start_worker(self, worker: Any) -> None:
        settings = _process.settings
        if settings is None or not settings.enabled or is_worker():
            return
        _process.worker_pid = os.getpid()
        _process.seam = _start_worker(worker, settings)

    def exit_worker(self, worker: Any) -> None:
        """Nothing yet: what the SDK still holds is flushed by its own exit handler."""

    def pre_request(self, worker: Any, req: Any) -> None:
        if _process.seam is not None:
            _process.seam.pre_request(req)

    def post_request(
        self, worker: Any, environ: Any, resp: Any, error: BaseException | None
    ) -> None:
        if _process.seam is not None:
            _process.seam.post_request(environ, resp, error)


_roles = _Roles()


def _start_worker(worker: Any, settings: Settings) -> WorkerSeam:
    from otel_canonical.app_facts import read_enrichers
    from otel_canonical.canonical_log import CanonicalLog
    from otel_canonical.emitters import ENCODERS, LineEmitter, LineOutput
    from otel_canonical.gunicorn_seam import WorkerSeam

    if _process.with_sdk:
        from opentelemetry.instrumentation.auto_instrumentation import initialize

        export_choice.set_defaults()
        initialize()
    owner = (worker.cfg.uid, worker.cfg.gid) if os.geteuid() == 0 else None
    output = LineOutput(settings.output, owner)
    emitter = LineEmitter(output, ENCODERS[settings.format], settings.max_line)
    log = CanonicalLog(settings, _root_spans(), emitter.emit, (_read_django, read_enrichers))
    reopen_files = worker.log.reopen_files

    def reopen_all_files() -> None:
        reopen_files()
        output.reopen()

    worker.log.reopen_files = reopen_all_files
    return WorkerSeam(worker, log)


def _root_spans() -> RootSpans:
    """Join the SDK, if there is one: our sampler around the user's, our counter beside exporters."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from otel_canonical.root_span import RootSpans
    from otel_canonical.span_processor import CallCounter
    from otel_canonical.span_sampler import CountingSampler

    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return RootSpans(None)
    exports = not _process.with_sdk or export_choice.exports("traces")
    user_sampler = provider.sampler
    sampler = CountingSampler(user_sampler if exports else None)
    provider.sampler = sampler
    # Instrumentations of a declarative configuration already hold tracers, each with its sampler.
    for tracer in list(getattr(provider, "_tracers", {}).values()):
        tracer.sampler = sampler
    provider.add_span_processor(CallCounter())
    root_tracer = provider.get_tracer(DJANGO_INSTRUMENTATION)
    root_spans = RootSpans(root_tracer if exports else None)
    if not exports:
        _export_later(provider, root_spans, root_tracer, sampler, user_sampler)
    return root_spans


def _export_later(
    provider: Any, root_spans: RootSpans, tracer: Any, sampler: Any, user_sampler: Any
) -> None:
    """Start making spans when the app adds a span processor of its own in code."""
    add_span_processor = provider.add_span_processor

    def add_and_export(processor: Any) -> None:
        add_span_processor(processor)
        sampler.obey(user_sampler)
        root_spans.record_with(tracer)

    provider.add_span_processor = add_and_export


def _read_django(scope: Any) -> None:
    if scope.django_request is not None:
        from otel_canonical.django_handler import read_request

        read_request(scope)


def _wrap_handler(module: Any) -> None:
    from otel_canonical import django_handler

    django_handler.wrap_handler(module, before_middleware)


def _wrap_caches(module: Any) -> None:
    from otel_canonical import django_cache

    django_cache.wrap_caches(module)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Drop the warning that another distro's configurator was not loaded: that is as it should be."""
    return not (
        str(record.msg).startswith("Configuration of %s not loaded")
        and "otel_canonical" in (record.args or ())
    )
