"""A worker's runtime, built and joined: the log, the seam to Gunicorn, the watchdog, the SDK.

Built after the fork, after gevent's patching, before the app is loaded; imported only then.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from otel_canonical import otel_config
from otel_canonical.event.event import ENDINGS, CanonicalEvent, has_failed
from otel_canonical.event.output import LineWriter
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.internal_errors import report_caught
from otel_canonical.otel import logs, sdk, shutdown, sql_comments
from otel_canonical.otel.export_losses import ExportLosses
from otel_canonical.otel.http_metrics import HttpMetrics
from otel_canonical.otel.root_span import end_open_spans, root_of
from otel_canonical.pool import backlog
from otel_canonical.pool.ledger import Place
from otel_canonical.request.canonical_log import CanonicalLog, Emit
from otel_canonical.request.deferred_signals import DeferredSignals
from otel_canonical.request.scope import RequestScope
from otel_canonical.servers import asgi_servers, pywsgi, thread_queue
from otel_canonical.servers.gunicorn import GunicornAdapter
from otel_canonical.settings import Settings
from otel_canonical.stacks import crash_dump
from otel_canonical.stacks.text import Describe, stack_lines, with_locals
from otel_canonical.worker.watchdog import Watchdog

#: Where the worker class is whose threads serve requests, while its main thread does not.
IN_THREADS = ("gunicorn.workers.gthread",)
#: Where the worker classes are whose threads serve one request at a time: its CPU time is theirs.
THREAD_PER_REQUEST = ("gunicorn.workers.sync", *IN_THREADS)

RequestHooks = tuple[Callable[[Any, Any], None], Callable[[Any, Any, "BaseException | None"], None]]


class WorkerRuntime:
    """All of ours that lives in one worker.

    Args:
        worker: Gunicorn's.
        settings: the operator's choice.
        line_writer: writes lines; made by the arbiter, so that all processes write alike.
        place: the worker's place on the scoreboard, None if there was no room.
        with_sdk: whether the SDK is ours to set up and to leave.
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
        self._berth = place
        self._with_sdk = with_sdk
        self._losses: ExportLosses | None = None
        if with_sdk:
            sdk.set_up()
            if otel_config.exports_anything():
                self._losses = ExportLosses()
                self._losses.watch()
        if place is not None:
            line_writer.counts = place.scoreboard.counters.counts_of(place.block)
        redaction = RedactionPolicy(settings.redacted_names)
        sql_comments.want(settings.sql_commenter)
        if with_app_logs:
            excluded = settings.excluded_fields
            has_id = excluded is None or not excluded.match("req_id")
            logs.export_app_logs(redaction, with_request_id=has_id)
        root_factory, release = sdk.connect(
            settings,
            exports=not with_sdk or otel_config.exports("traces"),
            redact=redaction.text,
        )
        in_flight: dict[int, RequestScope] = {}
        signals = DeferredSignals()
        if not _is_of(worker, IN_THREADS):
            signals.hold_back(worker)
        records_metrics = with_sdk and otel_config.records_http_metrics()
        self.log = CanonicalLog(
            settings,
            root_factory,
            _emit(line_writer, settings, sdk.http_metrics(in_flight) if records_metrics else None),
            in_flight=in_flight,
            scoreboard=place.scoreboard if place is not None else None,
            slots=place.scoreboard.slots_of(place.block) if place is not None else (),
            counts=line_writer.counts,
            release=release,
            signals=signals,
            times_cpu=_is_of(worker, THREAD_PER_REQUEST),
        )
        describe: Describe = stack_lines
        if settings.slow_locals:
            describe = with_locals(redaction)
        self.watchdog = Watchdog(
            in_flight=self.log.in_flight,
            heartbeat=lambda: _heartbeat(worker),
            timeout_s=worker.cfg.timeout,
            margin_s=settings.timeout_margin_seconds,
            slow_s=settings.slow_seconds,
            slow_interval_s=settings.slow_interval_seconds,
            on_due=self.log.due,
            on_slow=self.log.slow,
            on_abort=self._save_spans,
            describe=describe,
        )
        #: What to chain as Gunicorn's `pre_request` and `post_request`; None where there is a better seam.
        self.request_hooks = _follow_requests(worker, self.log)
        if place is not None:
            number = place.block
            if worker.cfg.reuse_port:
                place.scoreboard.counters.set_listeners(number, backlog.inodes_of(worker.sockets))
            thread_queue.count_waiting(
                worker, place.scoreboard.counters.waiting[number : number + 1]
            )
        self.watchdog.start()
        # What is here lives as long as the worker, and the app isn't here yet, whose garbage has the
        # collector walk all that it doesn't know to stay.
        gc.freeze()

    def is_ready(self) -> None:
        """Start recording stacks: after Gunicorn's handler of SIGABRT, which is called after the dump."""
        if self._berth is not None and self._berth.stacks is not None:
            crash_dump.record_into(self._berth.stacks)

    def abort(self) -> None:
        """Have what is open marked as aborted; called in a signal handler."""
        self.watchdog.abort()

    def leave(self) -> None:
        """Stop the watchdog and take leave of the SDK."""
        self.watchdog.stop()
        if self._with_sdk and otel_config.exports_anything():
            shutdown.shut_down(self._settings.flush_seconds, self._losses)

    def _save_spans(self) -> None:
        end_open_spans(self.log.in_flight)
        for scope in list(self.log.in_flight.values()):
            self.log.abort(scope)
        if otel_config.exports("traces"):
            shutdown.flush_spans(self._settings.flush_seconds)


def _is_of(worker: Any, modules: Sequence[str]) -> bool:
    """Return whether a worker's class is, or extends, one of these modules'."""
    return any(base.__module__ in modules for base in type(worker).__mro__)


def _follow_requests(worker: Any, log: CanonicalLog) -> RequestHooks | None:
    """Join the seam that fits the worker's class."""
    if asgi_servers.is_asgi(worker):
        asgi_servers.join(worker, log)
        return None
    # A gevent worker has patched the standard library by now; only then gevent is there.
    runner = sys.modules["greenlet"].getcurrent if hasattr(worker, "patch") else None
    if runner is not None and pywsgi.is_pywsgi(worker):
        pywsgi.follow(worker, log, runner)
        return None
    seam = GunicornAdapter(worker, log, runner)
    return seam.pre_request, seam.post_request


def _emit(line_writer: LineWriter, settings: Settings, metrics: HttpMetrics | None) -> Emit:
    """Return the way out: the line and, as far as they are exported, metrics and log event."""
    log_events = None
    if settings.log_events != "false" and otel_config.exports("logs"):
        log_events = logs.log_events()
    if log_events is None and metrics is None:
        return lambda event, scope: line_writer.emit(event)
    # Where no trace is exported, none is sampled.
    only_sampled = settings.log_events == "sampled" and otel_config.exports("traces")

    def emit_all(event: CanonicalEvent, scope: RequestScope) -> None:
        line_writer.emit(event)
        if metrics is not None and event.event_type in ENDINGS:
            try:
                metrics.record(event, scope)
            except Exception as error:  # noqa: BLE001  # a fence, see `report_caught`
                report_caught("recording a request's metrics", error)
        if log_events is None:
            return
        if only_sampled and not scope.root.is_exported and not has_failed(event, scope.status):
            return
        try:
            log_events.emit(event, root_of(scope).span, scope.status)
        except Exception as error:  # noqa: BLE001  # a fence, see `report_caught`
            report_caught("emitting a log event", error)

    return emit_all


def _heartbeat(worker: Any) -> float:
    """Return when the worker last showed the arbiter that it lives, monotonic seconds."""
    try:
        return float(worker.tmp.last_update())
    except (OSError, ValueError):
        # Gunicorn has closed it: the worker is leaving, and nothing will time out any more.
        return time.monotonic()
