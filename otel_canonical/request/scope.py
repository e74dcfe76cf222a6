"""The scope of one request: its facts, from the moment Gunicorn accepted it to the event that ends it.

Lives in the worker, one per request, in a ContextVar: in gthread, gevent and ASGI workers several requests
run at once, and other threads and tasks of a request find its scope through their context.
"""

from __future__ import annotations

import time

# Imported by name: gevent's replacement identifies greenlets, but stack dumps identify threads.
from _thread import get_ident
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from otel_canonical.event.fields import FieldValue
from otel_canonical.pool.scoreboard import PoolState
from otel_canonical.pool.slots import Slot
from otel_canonical.process.identity import own
from otel_canonical.request.places import Places
from otel_canonical.request.query_tally import QueryTally
from otel_canonical.request.root import NO_ROOT, Root
from otel_canonical.request.tallies import CallTally, WebsocketTally
from otel_canonical.stacks import errors
from otel_canonical.stacks.errors import ErrorFacts


@dataclass(frozen=True, slots=True)
class StackSample:
    """A sample of a running request's stack. `seen_ns` is monotonic; `stack` has the innermost frame last."""

    seen_ns: int
    loc: str | None
    cause_loc: str | None
    stack: str


class ScopeObserver(Protocol):
    """What a scope calls before its end: the canonical log."""

    def progress(self, scope: RequestScope) -> None:
        """Show route and view, which are known now."""

    def partial_failure(self, scope: RequestScope, error: ErrorFacts) -> None:
        """Write the line of a failure that the app survived."""


current_scope: ContextVar[RequestScope | None] = ContextVar("otel_canonical_scope", default=None)


class RequestScope(Places):
    """The facts of one request, added while it runs, until `claim` closes it.

    Names say the clock: `_ns` is `time.monotonic_ns`, `_wall_ns` is `time.time_ns`, `_cpu_ns` is
    `time.thread_time_ns`.

    It has slots instead of a dictionary, all set at once: a dictionary of so many attributes is slower
    to fill, and absent facts are read as often as present ones.
    """

    __slots__ = (
        *(
            "method",
            "path",
            "headers",
            "request_id",
            "has_context_headers",
            "query_string",
            "scheme",
            "proto",
        ),
        *("host", "client", "content_length", "root", "route", "view", "url_name", "url_kwargs"),
        *("user_id", "django_request", "django_response", "status", "bytes_written"),
        *("started_ns", "started_wall_ns", "started_cpu_ns", "first_byte_ns", "ended_ns"),
        *("ended_cpu_ns", "client_gone", "outer_error", "error", "queries", "calls"),
        *("template_renders", "template_ns", "cache_hits", "cache_misses"),
        *("cache_ns", "app", "timers", "thread_id", "pid", "worker_requests", "observer", "slot"),
        *("pool", "stuck", "slow", "is_exempt_from_slow", "is_aborted", "open_spans", "is_open"),
        *("is_exempt_from_deadline", "runner", "lost_cause"),
        *("is_left_later", "is_written", "_unclaimed", "__weakref__"),
        *("waited", "ended_waited", "collected", "modules", "resident", "queue_s"),
        *("log_warnings", "log_errors", "neighbours", "websocket"),
    )

    def __init__(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self.started_ns = time.monotonic_ns()
        self.started_wall_ns = time.time_ns()
        self.started_cpu_ns = time.thread_time_ns()
        #: The scheduler's statistics of the serving thread, at the beginning and at the end; None where
        #: they are unknown, or aren't the request's: where its work is spread over threads.
        self.waited: bytes | None = None
        self.ended_waited: bytes | None = None
        #: What the process was like at the beginning, see `process_facts`.
        self.collected = (0, 0)
        self.modules = 0
        self.resident: int | None = None
        # Its places, see there.
        self.accounted_ns = self.overlap_ns = self.handler_mark_ns = self.view_mark_ns = 0
        self.mw_ns = self.view_ns = self.template_own_ns = self.body_ns = 0
        self.view_callback: object = None
        self.thread_id = get_ident()
        self.method = method
        self.path = path
        self.headers = headers
        self.request_id = ""
        #: Whether the request has headers with a request id, a trace context or a queue time.
        self.has_context_headers = False
        #: How long it had waited since a proxy saw it.
        self.queue_s: float | None = None
        self.root: Root = NO_ROOT
        self.observer: ScopeObserver | None = None
        self.slot: Slot | None = None
        self.pid: int | None = None
        self.worker_requests: int | None = None
        self.pool: PoolState | None = None
        # The request.
        self.query_string = ""
        self.scheme: str | None = None
        self.proto: str | None = None
        self.host: str | None = None
        self.client: str | None = None
        self.content_length: int | None = None
        #: An exception that the server was handling when the request came; it isn't the request's.
        self.outer_error: BaseException | None = None
        # What Django made of it.
        self.route: str | None = None
        self.view: str | None = None
        self.url_name: str | None = None
        self.url_kwargs: Mapping[str, object] | None = None
        self.user_id: str | None = None
        self.django_request: Any = None
        self.django_response: Any = None
        # The response.
        self.status: int | None = None
        self.bytes_written: int | None = None
        self.first_byte_ns: int | None = None
        self.ended_ns: int | None = None
        self.ended_cpu_ns: int | None = None
        self.client_gone = False
        self.error: ErrorFacts | None = None
        # What it took.
        self.queries: QueryTally | None = None
        self.calls: dict[str, CallTally] | None = None
        self.template_renders = self.template_ns = 0
        self.cache_hits = self.cache_misses = self.cache_ns = 0
        self.app: dict[str, FieldValue] | None = None
        self.timers: dict[str, CallTally] | None = None
        self.log_warnings = self.log_errors = 0
        #: Which other routes were open when it was found to be late, and how often.
        self.neighbours: Counter[str] | None = None
        #: Of a websocket.
        self.websocket: WebsocketTally | None = None
        #: The watchdog's samples: at the deadline, and when the request became slow.
        self.stuck: StackSample | None = None
        self.slow: StackSample | None = None
        self.is_exempt_from_slow = False
        #: True for a websocket, which stays open as long as its client likes.
        self.is_exempt_from_deadline = False
        #: The greenlet or task that runs the request; None where its thread runs nothing else.
        self.runner: object = None
        #: Why the worker gave the request up without an answer; None if it didn't.
        self.lost_cause: str | None = None
        #: Whether the arbiter has aborted the worker while this request was open.
        self.is_aborted = False
        #: Open spans by span id, in the order in which they began; of recorded traces only.
        self.open_spans: dict[int, object] | None = None
        #: Whether facts may still be added: until the event is composed. Threads and tasks that a
        #: request has left behind may try later.
        self.is_open = True
        #: Whether it stays the current request behind its last byte, until `CanonicalLog.leave`.
        self.is_left_later = False
        #: Whether the event's line was written, or is just being written.
        self.is_written = False
        self._unclaimed = [True]

    @property
    def is_claimed(self) -> bool:
        """Whether the request's event is being written, or was written."""
        return not self._unclaimed

    def claim(self) -> bool:
        """Return True to the first caller only; it alone may write the request's one event.

        The request's own thread, the watchdog and a signal handler may race for it. `list.pop` is atomic,
        so no lock is needed that one of them could hold while another interrupts it.
        """
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    def note_error(self, error: BaseException) -> None:
        """Note what went wrong, the first time that something does."""
        # The SystemExit of an abort is how Gunicorn ends the worker, not what went wrong.
        if self.error is None and not self.is_aborted:
            self.error = errors.of_error(error)

    def note_refusal(self, status: int, error: ErrorFacts | None = None) -> None:
        """Note that the server answers by itself, unless a response has begun.

        Args:
            status: of the server's answer.
            error: why it answers; an earlier error of the request stays.
        """
        self.error = self.error or error
        if self.first_byte_ns is None:
            self.first_byte_ns = time.monotonic_ns()
            self.status = status

    def note_head(self, status: int) -> None:
        """Note that the head of the response was sent just now."""
        self.first_byte_ns = time.monotonic_ns()
        self.status, self.bytes_written = status, 0
        # An application may send anything as its status.
        if self.slot is not None and type(status) is int and 0 < status < MOST_STATUS:
            self.slot.set_status(self.started_ns, status)

    def note_answered(self) -> None:
        """Note that the response is complete: an abort of the worker came too late for this request."""
        self.is_aborted = False

    def query_tally(self) -> QueryTally:
        """Return the tally of this request's database work, made when it is first needed."""
        queries = self.queries
        if queries is None:
            queries = QueryTally()
            # Checked again: another thread of the request may have set it meanwhile. No calls below.
            if self.queries is None:
                self.queries = queries
            queries = self.queries
        return queries

    def add_query(self, text: str, elapsed_ns: int, failed: bool) -> None:
        """Count one database query. `text` is the SQL before its parameters are filled in."""
        if not self.is_open or not own[0]:
            return
        queries = self.queries or self.query_tally()
        queries.add_query(text, elapsed_ns, failed)
        self.accounted_ns += elapsed_ns
        slot = self.slot
        if slot is not None:
            slot.set_queries(self.started_ns, queries.count)

    def add_call(self, system: str, elapsed_ns: int, failed: bool) -> None:
        """Count one outgoing call to `system`: http, redis, kafka…"""
        if self.calls is None:
            self.calls = {}
        self.calls.setdefault(system, CallTally()).add(elapsed_ns, failed)

    def add_time(self, key: str, elapsed_ns: int) -> None:
        """Add one run to the app's timer `key`; the total stays exact however short each run is."""
        if self.timers is None:
            self.timers = {}
        self.timers.setdefault(key, CallTally()).add(elapsed_ns)

    def set_app(self, key: str, value: FieldValue) -> None:
        """Set what the app wants to see as `app_<key>`."""
        if self.app is None:
            self.app = {}
        self.app[key] = value


#: A slot has two bytes for a status.
MOST_STATUS = 1 << 16

#: Functions that read late facts into a scope that is about to be closed, called in order. One that
#: fails loses its own facts only.
readers: list[Callable[[RequestScope], None]] = []


def open_scope() -> RequestScope | None:
    """Return the request that this code runs for; None outside one, after its end, and in a fork."""
    scope = current_scope.get()
    return scope if scope is not None and scope.is_open and own[0] else None
