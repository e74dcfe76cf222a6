"""Our half of a worker, built and connected: canonical log, server adapter, watchdog, SDK.

Built after the fork and after gevent's patching, before the app is loaded; imported only then.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from otel_canonical import otel_config
from otel_canonical.event import bounds
from otel_canonical.event.event import ENDINGS, CanonicalEvent, has_failed
from otel_canonical.event.line_writer import LineWriter
from otel_canonical.event.patience import PATIENCE_OF_LOOP_MS
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.event.whole_prints import keep_apart
from otel_canonical.internal_errors import guarded, report_caught
from otel_canonical.otel import logs, sdk, shutdown, sql_comments
from otel_canonical.otel.export_losses import ExportLosses
from otel_canonical.otel.http_metrics import HttpMetrics
from otel_canonical.otel.root_factory import RootFactory
from otel_canonical.otel.root_span import end_open_spans, root_of
from otel_canonical.pool import backlog
from otel_canonical.pool.counters import QUEUED_LOGS, QUEUED_SPANS
from otel_canonical.pool.place import Place
from otel_canonical.pool.worker_class import worker_class_of
from otel_canonical.process.garbage import collections
from otel_canonical.request.canonical_log import CanonicalLog
from otel_canonical.request.deferred_signals import DeferredSignals
from otel_canonical.request.progress import Outputs
from otel_canonical.request.query_tally import thresholds
from otel_canonical.request.scope import RequestScope
from otel_canonical.request.slow_queries import explaining
from otel_canonical.servers import asgi_servers, pywsgi, thread_queue
from otel_canonical.servers.gunicorn import GunicornAdapter
from otel_canonical.settings import Settings
from otel_canonical.stacks import crash_dump
from otel_canonical.stacks.text import with_locals, without_locals
from otel_canonical.worker.alarm import ASK_STACKS
from otel_canonical.worker.live import LiveWorker
from otel_canonical.worker.plan_worker import PlanWorker
from otel_canonical.worker.switches import SwitchedSettings
from otel_canonical.worker.watchdog import Deadlines, Watchdog

RequestHooks = tuple[Callable[[Any, Any], None], Callable[[Any, Any, "BaseException | None"], None]]


class WorkerRuntime:
    """Everything of ours in one worker.

    Args:
        worker: Gunicorn's.
        settings: the operator's choice.
        line_writer: writes lines; made by the arbiter, so that all processes write alike.
        place: the worker's place in the pool; None if there was no room for it.
        with_sdk: whether the SDK is ours to set up and to shut down.
        with_app_logs: whether the app's log records are ours to export.
    """

    def __init__(
        self,
        worker: Any,
        settings: Settings,
        line_writer: LineWriter,
        place: Place | None,
        *,
        with_sdk: bool,
        with_app_logs: bool,
    ) -> None:
        self._settings = settings
        self._plans: PlanWorker | None = None
        self._place = place
        self._live: LiveWorker | None = None
        self._exports = with_sdk and otel_config.exports_anything()
        self._losses = _set_up_sdk(place) if with_sdk else None
        if place is not None:
            line_writer.counts = place.counts()
        if not worker_class_of(type(worker)).has_thread_per_request:
            line_writer.output.patience.limit_ms = PATIENCE_OF_LOOP_MS
        keep_apart(line_writer.output)
        bounds.configure(settings)
        redaction = RedactionPolicy(settings.redacted_names)
        sql_comments.want(settings.sql_commenter)
        thresholds.n_plus_one = settings.n_plus_one
        thresholds.slow_ns = round(settings.db_slow_seconds * 1e9)
        if with_app_logs:
            excluded = settings.excluded_fields
            has_id = excluded is None or not excluded.match("req_id")
            logs.export_app_logs(redaction, with_request_id=has_id)
        metrics = _http_metrics() if with_sdk else None
        exports_traces = not with_sdk or otel_config.exports("traces")
        self._outputs = _outputs(line_writer, settings, metrics)
        self.log = CanonicalLog(
            settings,
            _root_factory(settings, redaction, exports_traces=exports_traces),
            self._explaining(settings.db_explain_seconds),
            place,
            _deferred_signals(worker),
            times_cpu=worker_class_of(type(worker)).has_thread_per_request,
        )
        if metrics is not None:
            metrics.observe_active(self.log.in_flight)
        self._watchdog = Watchdog(
            self.log.in_flight,
            Deadlines(
                worker.cfg.timeout,
                settings.timeout_margin_seconds,
                settings.slow_seconds,
                settings.slow_interval_seconds,
            ),
            lambda: _heartbeat(worker),
            self,
            with_locals(redaction) if settings.slow_locals else without_locals(redaction),
        )
        #: What to chain as Gunicorn's `pre_request` and `post_request`; None where neither is used.
        self.request_hooks = _follow_requests(worker, self.log)
        if place is not None:
            _count_connections(worker, place)
            self._live = LiveWorker(place, self.log.in_flight)
            self._live.show(worker, self._watchdog.alarm.outside_fd)
            switched = SwitchedSettings(settings, place.scoreboard, self._reconfigure)
            self.log.on_switch = switched.apply
        self._watchdog.start()
        collections.watch()
        # All that exists now lives as long as the worker. Without this, each full collection would
        # walk it, too; the app, whose garbage matters, is loaded later.
        gc.freeze()

    def _explaining(self, after_s: float | None) -> Outputs:
        """Return what also has the plans of a request's slow queries fetched, if they are wanted.

        Once they were, it stays: a request that is open now may have queries that wait for their plans.
        """
        explaining.slow_ns = sys.maxsize if after_s is None else round(after_s * 1e9)
        outputs = self._outputs
        if after_s is None and self._plans is None:
            return outputs
        if self._plans is None:
            self._plans = PlanWorker(lambda *found: self.log.slow_query(*found))
        plans = self._plans

        def export_and_explain(event: CanonicalEvent, scope: RequestScope) -> None:
            if outputs.export is not None:
                outputs.export(event, scope)
            if event.event_type in ENDINGS:
                plans.take(scope)

        return Outputs(outputs.encode, outputs.write, export_and_explain)

    def is_ready(self) -> None:
        """Start recording crash dumps: after Gunicorn's handler of SIGABRT, which runs after the dump."""
        if self._place is not None and self._place.stacks is not None:
            crash_dump.record_into(self._place.stacks)
        if self._live is not None:
            self._live.booted()

    def abort(self) -> None:
        """Mark the open requests as aborted; called in a signal handler."""
        self._watchdog.abort()

    def shut_down(self) -> None:
        """Stop the watchdog and shut the SDK down, both within a time limit."""
        self._watchdog.stop()
        if self._plans is not None:
            self._plans.stop()
        if self._exports:
            shutdown.shut_down(self._settings.flush_seconds, self._losses)

    def watching(self, native_id: int) -> None:
        """Show the watchdog's thread to the commands (watchdog)."""
        if self._live is not None:
            self._live.watching(native_id)

    def answer(self, asked: bytes) -> None:
        """Answer a command that has woken the watchdog (watchdog)."""
        if self._live is not None and ASK_STACKS in asked:
            self._live.answer()

    def _reconfigure(self, settings: Settings) -> None:
        self.log.reconfigure(settings)
        self.log.put_out_by(self._explaining(settings.db_explain_seconds))
        self._watchdog.set_slow(settings.slow_seconds)

    def due(self, scope: RequestScope) -> None:
        """Show on the scoreboard where a request is at its deadline (watchdog)."""
        self.log.due(scope)

    def slow(self, scope: RequestScope) -> None:
        """Write the line of a slow request (watchdog)."""
        self.log.slow(scope)

    def save_spans(self) -> None:
        """End and export the spans of open requests: the worker is about to be killed (watchdog)."""
        end_open_spans(self.log.in_flight)
        for scope in list(self.log.in_flight.values()):
            self.log.abort(scope)
        if otel_config.exports("traces"):
            shutdown.flush_spans(self._settings.flush_seconds)


def _set_up_sdk(place: Place | None) -> ExportLosses | None:
    """Set the SDK up and return what counts its losses; None if nothing is exported."""
    with guarded("setting OpenTelemetry's SDK up"):
        sdk.set_up()
        if otel_config.exports_anything():
            queued = place.words()[QUEUED_SPANS : QUEUED_LOGS + 1] if place is not None else None
            losses = ExportLosses(queued)
            losses.watch()
            return losses
    return None


def _root_factory(
    settings: Settings, redaction: RedactionPolicy, *, exports_traces: bool
) -> RootFactory:
    """Return what opens the root of each request. Lines need it, and don't need the SDK."""
    with guarded("connecting to OpenTelemetry's SDK"):
        return sdk.connect(settings, exports=exports_traces, redaction=redaction)
    return RootFactory(None, redaction.text)


def _http_metrics() -> HttpMetrics | None:
    with guarded("preparing the HTTP metrics"):
        if otel_config.records_http_metrics():
            return sdk.http_metrics()
    return None


def _deferred_signals(worker: Any) -> DeferredSignals:
    signals = DeferredSignals()
    if worker_class_of(type(worker)).serves_in_main_thread:
        signals.install(worker)
    return signals


def _count_connections(worker: Any, place: Place) -> None:
    """Show on the scoreboard which connections wait for this worker alone."""
    counters, block = place.scoreboard.counters, place.block
    if worker.cfg.reuse_port:
        counters.set_listeners(block, backlog.inodes_of(worker.sockets))
    thread_queue.count_waiting(worker, counters.waiting[block : block + 1])


def _follow_requests(worker: Any, log: CanonicalLog) -> RequestHooks | None:
    """Connect the adapter that fits the worker's class."""
    if asgi_servers.is_asgi(worker):
        asgi_servers.join(worker, log)
        return None
    # A gevent worker has patched the standard library by now, and so imported greenlet.
    runner = sys.modules["greenlet"].getcurrent if hasattr(worker, "patch") else None
    if runner is not None and pywsgi.is_pywsgi(worker):
        pywsgi.follow(worker, log, runner)
        return None
    adapter = GunicornAdapter(worker, log, runner)
    return adapter.pre_request, adapter.post_request


def _outputs(line_writer: LineWriter, settings: Settings, metrics: HttpMetrics | None) -> Outputs:
    """Return what takes an event: its line and, as far as they are exported, metrics and log event."""
    log_events = None
    if settings.log_events != "false" and otel_config.exports("logs"):
        log_events = logs.log_events()
    if log_events is None and metrics is None:
        return Outputs(line_writer.encode, line_writer.write)
    # Without exported traces no request is sampled, and `sampled` then means all.
    only_sampled = settings.log_events == "sampled" and otel_config.exports("traces")

    def export(event: CanonicalEvent, scope: RequestScope) -> None:
        if metrics is not None and event.event_type in ENDINGS:
            try:
                metrics.record(event, scope)
            except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
                report_caught("recording a request's metrics", error)
        if log_events is None:
            return
        if only_sampled and not scope.root.is_exported and not has_failed(event, scope.status):
            return
        try:
            log_events.emit(event, root_of(scope).span, scope.status)
        except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
            report_caught("emitting a log event", error)

    return Outputs(line_writer.encode, line_writer.write, export)


def _heartbeat(worker: Any) -> float:
    """Return when the worker last told the arbiter that it is alive, monotonic seconds."""
    try:
        return float(worker.tmp.last_update())
    except (OSError, ValueError):
        # Gunicorn has closed the file: the worker is leaving and can't time out any more.
        return time.monotonic()
