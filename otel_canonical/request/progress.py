"""What happens to a request between its beginning and its end: shown on the scoreboard, or a line of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from otel_canonical.event.event import CanonicalEvent, EventType
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.event.rows import seconds
from otel_canonical.internal_errors import guarded, report_caught
from otel_canonical.pool.open_routes import open_routes, shown_route
from otel_canonical.pool.place import Place
from otel_canonical.pool.slots import Slot
from otel_canonical.process.identity import own
from otel_canonical.request.always_export import SLOW, TIMEOUT, AlwaysExport
from otel_canonical.request.composer import Composer
from otel_canonical.request.headers import queue_time_s
from otel_canonical.request.root import RootFactory
from otel_canonical.request.scope import RequestScope
from otel_canonical.request.slow_queries import SlowQuery
from otel_canonical.settings import Settings
from otel_canonical.stacks.errors import ErrorFacts

#: A request that waited this long for its worker is late, unless the operator says what slow is.
LATE_S = 0.5


class Outputs(NamedTuple):
    """Where events go.

    A line is encoded before its request's slot is marked, and the output writes it right behind the mark:
    a worker that is killed in between loses the line of that moment only.

    Attributes:
        encode: returns an event's line.
        write: writes the line of an event, and marks the slot of the request that it ends, if any.
        export: exports an event of a request; None if nothing is exported.
    """

    encode: Callable[[CanonicalEvent], bytes]
    write: Callable[[CanonicalEvent, bytes, Slot | None], None]
    export: Callable[[CanonicalEvent, RequestScope], None] | None = None


class RequestProgress:
    """Shows open requests on the scoreboard, and writes the lines that don't end them.

    Args:
        settings: the operator's choice.
        root_factory: exports the requests that are kept.
        outputs: take the events.
        place: the worker's; None shows no request.
    """

    def __init__(
        self, settings: Settings, root_factory: RootFactory, outputs: Outputs, place: Place | None
    ) -> None:
        self._root_factory = root_factory
        self.put_out_by(outputs)
        self._redaction = RedactionPolicy(settings.redacted_names)
        self._scoreboard = place.scoreboard if place is not None else None
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take over settings that were switched while the worker runs."""
        self.settings = settings
        self._rule = AlwaysExport(settings)
        self._composer = Composer(settings, self._redaction)

    def put_out_by(self, outputs: Outputs) -> None:
        """Let other outputs take the events from now on."""
        self._encode, self._write, self._export = outputs

    def progress(self, scope: RequestScope) -> None:
        """Show the request's route and view on the scoreboard."""
        if not own[0]:
            return
        exempt = self.settings.slow_exempt
        if exempt is not None:
            names = (scope.view, scope.url_name)
            scope.is_exempt_from_slow = any(name and exempt.match(name) for name in names)
        if scope.slot is not None:
            texts: tuple[str, ...] = (scope.route or "", scope.view or "")
            if scope.url_kwargs:
                path = self._redaction.path(scope.path, scope.url_kwargs)
                # Most have no secret, and are shown already.
                if path is not scope.path:
                    texts = (*texts, path)
            scope.slot.write_route(scope.started_ns, texts)

    def partial_failure(self, scope: RequestScope, error: ErrorFacts) -> None:
        """Write the `partial_failure` line of a failure that the app survived."""
        self._emit(self._composer.partial_failure_event(scope, error), scope)

    def slow_query(self, scope: RequestScope, query: SlowQuery, plan: str) -> None:
        """Write the `slow_query` line of a query of a request that has ended."""
        self._emit(self._composer.slow_query_event(scope, query, plan), scope)

    def _emit(self, event: CanonicalEvent, scope: RequestScope) -> None:
        self._write(event, self._encode(event), None)
        if self._export is not None:
            self._export(event, scope)

    def due(self, scope: RequestScope) -> None:
        """Show on the scoreboard where a request is at its deadline."""
        self._note_neighbours(scope)
        stuck = scope.stuck
        if scope.slot is not None and stuck is not None:
            after_s = seconds(stuck.seen_ns - scope.started_ns)
            texts = (str(after_s), stuck.loc or "", stuck.cause_loc or "")
            scope.slot.write_watched(scope.started_ns, texts)

    def slow(self, scope: RequestScope) -> None:
        """Write the `slow` line of a request that still runs."""
        if self._scoreboard is not None:
            scope.pool = self._scoreboard.pool_state(time.monotonic_ns())
            self._note_neighbours(scope)
        if self._rule.exports_slow:
            with guarded("deciding on a request's export"):
                self._decide(scope, SLOW)
        try:
            event = self._composer.request_event(scope, EventType.SLOW)
        except Exception as error:  # noqa: BLE001  # guarded, see `report_caught`
            report_caught("composing an event", error)
            event = self._composer.least_event(scope, EventType.SLOW)
        self._emit(event, scope)

    def _note_queue_time(self, scope: RequestScope) -> None:
        scope.queue_s = queue_time_s(scope.headers, scope.started_wall_ns / 1e9)
        if scope.queue_s is not None and scope.queue_s >= (self.settings.slow_seconds or LATE_S):
            self._note_neighbours(scope)

    def _note_neighbours(self, scope: RequestScope) -> None:
        """Note which other requests are open in the pool now."""
        if self._scoreboard is None:
            return
        with guarded("noting what else is open"):
            neighbours = open_routes(self._scoreboard)
            if scope.slot is not None:
                neighbours[shown_route(scope.route)] -= 1
            scope.neighbours = neighbours

    def abort(self, scope: RequestScope) -> None:
        """Export what a request has done so far: its worker is about to be killed."""
        if self._rule.exports_timeouts:
            with guarded("deciding on a request's export"):
                self._decide(scope, TIMEOUT)

    def _decide(self, scope: RequestScope, reason: str | None) -> None:
        root = scope.root
        if reason is None or not root.is_recorded:
            return
        root.export_rule = reason
        self._root_factory.export_kept(scope)
