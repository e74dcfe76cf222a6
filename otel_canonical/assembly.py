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
import time
from typing import TYPE_CHECKING, Any

import wrapt

from otel_canonical import export_choice, gunicorn_arbiter, stack_recorder, stack_text
from otel_canonical import settings as settings_room
from otel_canonical._version import __version__
from otel_canonical.fence import Fence

if TYPE_CHECKING:
    from otel_canonical.canonical_log import CanonicalLog, Emit
    from otel_canonical.emitters import LineEmitter
    from otel_canonical.event import CanonicalEvent
    from otel_canonical.gunicorn_seam import WorkerSeam
    from otel_canonical.obituary import Berth, Obituaries
    from otel_canonical.reporter_link import ReporterLink
    from otel_canonical.request_scope import RequestScope
    from otel_canonical.root_span import RootSpans
    from otel_canonical.settings import Settings
    from otel_canonical.watchdog import Watchdog

#: Slots on the page for a worker whose concurrency has no small bound (gevent, ASGI).
MOST_SLOTS = 128

#: The name under which DjangoInstrumentor makes its spans; the root span is made under it, for it.
DJANGO_INSTRUMENTATION = "opentelemetry.instrumentation.django"


class _Process:
    """What this process has been set up for; a forked worker starts from the arbiter's copy."""

    def __init__(self) -> None:
        self.is_installed = False
        self.watches_django = False
        self.with_sdk = False
        self.settings: Settings | None = None
        self.obituaries: Obituaries | None = None
        self.reporter: ReporterLink | None = None
        self.berth: Berth | None = None
        self.watchdog: Watchdog | None = None
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


def sets_sdk_up() -> bool:
    """Return whether the SDK is ours to set up, in workers; if not, another distro does so at once."""
    return _process.with_sdk


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
        if _process.obituaries is None:
            _process.obituaries = _obituaries(settings, arbiter.cfg)
            arbiter.log.info(
                "otel-canonical %s: one %s line per request on %s; %s",
                __version__,
                settings.format,
                settings.output,
                export_choice.describe(),
            )
            if not stack_recorder.is_supported():
                arbiter.log.info("otel-canonical: no memfd here; crashed requests have no location")
        _process.obituaries.grow(_slots(arbiter.cfg), arbiter.cfg.workers)

    def before_fork(self, worker: Any) -> None:
        if _process.obituaries is not None:
            _process.berth = _process.obituaries.assign(worker)

    def before_signal(self, pid: int, number: int) -> None:
        if _process.obituaries is not None:
            _process.obituaries.note_signal(pid, number)

    def before_reap(self, arbiter: Any) -> None:
        if _process.obituaries is not None:
            _process.obituaries.peek(arbiter.WORKERS)

    def after_death(self, worker: Any) -> None:
        if _process.obituaries is not None:
            _process.obituaries.bury(worker)

    def before_arbiter_exit(self, arbiter: Any) -> None:
        if _process.obituaries is not None:
            _process.obituaries.bury_all(arbiter.WORKERS.values())
        if _process.reporter is not None:
            _process.reporter.close()

    def start_worker(self, worker: Any) -> None:
        settings = _process.settings
        if settings is None or not settings.enabled or is_worker():
            return
        gunicorn_arbiter.heed_signals(worker)
        _process.worker_pid = os.getpid()
        if _process.obituaries is not None:
            _process.obituaries.leave_to(worker)
        if _process.reporter is not None:
            _process.reporter.leave_to_worker()
        _start_worker(worker, settings)

    def worker_is_ready(self, worker: Any) -> None:
        # After Gunicorn's own handler of SIGABRT, which is called after the dump.
        if is_worker() and _process.berth is not None and _process.berth.stacks is not None:
            stack_recorder.record_into(_process.berth.stacks)

    def pre_request(self, worker: Any, req: Any) -> None:
        if _process.seam is not None:
            _process.seam.pre_request(req)

    def post_request(
        self, worker: Any, environ: Any, resp: Any, error: BaseException | None
    ) -> None:
        if _process.seam is not None:
            _process.seam.post_request(environ, resp, error)

    def abort_worker(self, worker: Any) -> None:
        if _process.seam is not None and _process.watchdog is not None:
            _process.seam.worker_abort()
            _process.watchdog.abort()

    def exit_worker(self, worker: Any) -> None:
        # Gunicorn calls this in the arbiter too, for a worker that somebody else has reaped.
        if is_worker() and _process.watchdog is not None:
            _process.watchdog.stop()
            _leave_sdk()


_roles = _Roles()


def _slots(cfg: Any) -> int:
    """Return how many requests a worker of this configuration can have open at once."""
    if cfg.worker_class_str in ("sync", "gthread"):
        return int(cfg.threads)
    return int(min(cfg.worker_connections, MOST_SLOTS))


def _obituaries(settings: Settings, cfg: Any) -> Obituaries:
    from otel_canonical.obituary import Obituaries
    from otel_canonical.reporter_link import ReporterLink

    emitter = _emitter(settings, cfg)
    exports_logs = settings.log_events and export_choice.exports("logs")
    _process.reporter = ReporterLink(exports_logs=exports_logs)
    return Obituaries(settings, _slots(cfg), cfg.workers, emitter.emit, _process.reporter.send)


def _emitter(settings: Settings, cfg: Any) -> LineEmitter:
    from otel_canonical.emitters import ENCODERS, LineEmitter, LineOutput

    owner = (cfg.uid, cfg.gid) if os.geteuid() == 0 else None
    output = LineOutput(settings.output, owner)
    return LineEmitter(output, ENCODERS[settings.format], settings.max_line)


def _start_worker(worker: Any, settings: Settings) -> None:
    from otel_canonical.app_facts import read_enrichers
    from otel_canonical.canonical_log import CanonicalLog
    from otel_canonical.gunicorn_seam import WorkerSeam
    from otel_canonical.redaction import RedactionPolicy
    from otel_canonical.watchdog import Watchdog

    if _process.with_sdk:
        from opentelemetry.instrumentation.auto_instrumentation import initialize

        export_choice.set_defaults()
        initialize()
    emitter = _emitter(settings, worker.cfg)
    berth = _process.berth
    log = CanonicalLog(
        settings,
        _root_spans(),
        _emit(emitter, settings),
        (_read_django, read_enrichers),
        berth.page.slots_of(berth.block) if berth is not None else (),
    )
    if berth is not None:
        berth.page.set_pid(berth.block, os.getpid())
    reopen_files = worker.log.reopen_files

    def reopen_all_files() -> None:
        reopen_files()
        emitter.output.reopen()

    worker.log.reopen_files = reopen_all_files
    describe = (
        stack_text.with_locals(RedactionPolicy(settings.redacted_names))
        if settings.slow_locals
        else stack_text.stack_lines
    )
    _process.watchdog = Watchdog(
        in_flight=log.in_flight,
        heartbeat=lambda: _heartbeat(worker),
        timeout_s=worker.cfg.timeout,
        margin_s=settings.timeout_margin_seconds,
        slow_s=settings.slow_seconds,
        slow_interval_s=settings.slow_interval_seconds,
        on_due=log.due,
        on_slow=log.slow,
        on_abort=lambda: _save_spans(log),
        describe=describe,
    )
    _process.seam = WorkerSeam(worker, log, describe)
    _process.watchdog.start()


def _emit(emitter: LineEmitter, settings: Settings) -> Emit:
    """Return the way out: the line and, if logs are exported, the log event."""
    if not (settings.log_events and export_choice.exports("logs")):
        return lambda event, scope: emitter.emit(event)
    from opentelemetry._logs import get_logger

    from otel_canonical.log_events import LogEvents

    log_events = LogEvents(get_logger("otel_canonical", __version__))

    def emit_both(event: CanonicalEvent, scope: RequestScope) -> None:
        emitter.emit(event)
        with Fence("emitting a log event"):
            log_events.emit(event, scope.root.span)

    return emit_both


def _heartbeat(worker: Any) -> float:
    """Return when the worker last showed the arbiter that it lives, monotonic seconds."""
    try:
        return float(worker.tmp.last_update())
    except (OSError, ValueError):
        # Gunicorn has closed it: the worker is leaving, and nothing will time out any more.
        return time.monotonic()


def _save_spans(log: CanonicalLog) -> None:
    """End what is still open in a worker that is about to be killed, so that it is exported."""
    from otel_canonical.root_span import end_open_spans

    end_open_spans(log.in_flight)
    if export_choice.exports("traces"):
        from otel_canonical import sdk_farewell

        sdk_farewell.flush_spans(log.settings.flush_seconds)


def _leave_sdk() -> None:
    if _process.settings is not None and _process.with_sdk and export_choice.exports_anything():
        from otel_canonical import sdk_farewell

        sdk_farewell.leave(_process.settings.flush_seconds)


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
