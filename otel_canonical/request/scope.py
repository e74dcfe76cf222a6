"""One request, from the moment Gunicorn accepted it to the one event that ends it.

Lives in the worker, one per request, in a ContextVar: several run at once in gthread, gevent and ASGI
workers, and what a request sets off in other threads and tasks finds its scope through its context.
"""

from __future__ import annotations

import time

# By name: gevent replaces it in its module by one that tells greenlets apart, as no stack dump does.
from _thread import get_ident
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from otel_canonical.event.fields import FieldValue
from otel_canonical.pool.scoreboard import PoolState
from otel_canonical.pool.slots import Slot
from otel_canonical.request.query_tally import QueryTally
from otel_canonical.request.root import NO_ROOT, Root
from otel_canonical.request.tallies import CallTally
from otel_canonical.stacks import errors
from otel_canonical.stacks.errors import ErrorFacts


@dataclass(frozen=True, slots=True)
class StackSample:
    """Where a request was seen while it ran. `seen_ns` is monotonic; `stack` innermost last."""

    seen_ns: int
    loc: str | None
    cause_loc: str | None
    stack: str


class ScopeObserver(Protocol):
    """Who keeps a scope: told of what happens before its end."""

    def progress(self, scope: RequestScope) -> None:
        """Take note: route and view are known now."""

    def partial_failure(self, scope: RequestScope, error: ErrorFacts) -> None:
        """Write a failure that the app survived."""


current_scope: ContextVar[RequestScope | None] = ContextVar("otel_canonical_scope", default=None)


class RequestScope:
    """The facts of one request, filled in by whoever knows them, until `claim` closes it.

    Names say the clock: `_ns` is `time.monotonic_ns`, `_wall_ns` is `time.time_ns`, `_cpu_ns` is
    `time.thread_time_ns`.

    Slots, not a dictionary, and all of them filled at once: a request has too many facts for Python
    to keep its dictionary small, and a fact that isn't there is asked for as often as one that is.
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
        *("_unclaimed", "__weakref__"),
    )

    def __init__(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self.started_ns = time.monotonic_ns()
        self.started_wall_ns = time.time_ns()
        self.started_cpu_ns = time.thread_time_ns()
        self.thread_id = get_ident()
        self.method = method
        self.path = path
        self.headers = headers
        self.request_id = ""
        #: Whether headers name an id, a trace or a queue that this request belongs to.
        self.has_context_headers = False
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
        #: The exception that the server was handling when the request came; not one of the request.
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
        #: What the watchdog saw at the deadline, and when the request was slow.
        self.stuck: StackSample | None = None
        self.slow: StackSample | None = None
        self.is_exempt_from_slow = False
        #: A websocket: open for as long as its client likes.
        self.is_exempt_from_deadline = False
        #: The greenlet or task that runs the request; None where a thread does so by itself.
        self.runner: object = None
        #: Why the worker gave the request up without an answer, if it could still say so.
        self.lost_cause: str | None = None
        #: The arbiter has aborted the worker while this request was open.
        self.is_aborted = False
        #: Spans under way, by span id, in the order in which they began; of recorded traces only.
        self.open_spans: dict[int, object] | None = None
        #: Whether facts may still be added: until the event is made. Code that a request has left
        #: behind in a thread or task may come later, and must not write into a finished one.
        self.is_open = True
        self._unclaimed = [True]

    @property
    def is_claimed(self) -> bool:
        """Whether somebody is writing, or has written, the request's event."""
        return not self._unclaimed

    def claim(self) -> bool:
        """Return True to the first caller only; it alone may write the request's one event.

        The request's own thread, the watchdog and a signal handler may race for it. `list.pop` is
        atomic: there is no lock that one of them could hold when another interrupts it.
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

    def note_answered(self) -> None:
        """Note that the response is complete: an abort of the worker came too late for this request."""
        self.is_aborted = False

    def query_tally(self) -> QueryTally:
        """Return the tally of this request's database work, made when it is first needed."""
        queries = self.queries
        if queries is None:
            queries = QueryTally()
            # Asked again: another thread of the request may have come first, but not from here on.
            if self.queries is None:
                self.queries = queries
            queries = self.queries
        return queries

    def add_query(self, text: str, elapsed_ns: int, failed: bool) -> None:
        """Count one database query. `text` is the SQL before its parameters are filled in."""
        if not self.is_open:
            return
        queries = self.queries or self.query_tally()
        queries.add_query(text, elapsed_ns, failed)
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


#: Called in order with a scope that is about to be closed, to read what is known late; one that fails
#: costs its facts only. Who has something to read puts its reader here.
readers: list[Callable[[RequestScope], None]] = []


def open_scope() -> RequestScope | None:
    """Return the request that this code runs for; None outside one and after it has ended."""
    scope = current_scope.get()
    return scope if scope is not None and scope.is_open else None
