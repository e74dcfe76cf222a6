"""One request, from the moment Gunicorn accepted it to the one event that ends it.

Lives in the worker, one per request, in a ContextVar: several run at once in gthread, gevent and ASGI
workers, and what a request sets off in other threads and tasks finds its scope through its context.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from otel_canonical.error_facts import ErrorFacts
from otel_canonical.fields import FieldValue
from otel_canonical.shared_page import PoolState, Slot
from otel_canonical.tallies import CallTally, QueryTally


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a request was seen while it ran. `seen_ns` is monotonic; `stack` innermost last."""

    seen_ns: int
    loc: str | None
    cause_loc: str | None
    stack: str


class Keeper(Protocol):
    """Who keeps a scope: told of what happens before its end."""

    def progress(self, scope: RequestScope) -> None:
        """Take note: route and view are known now."""

    def partial_failure(self, scope: RequestScope, error: ErrorFacts) -> None:
        """Write a failure that the app survived."""


current_scope: ContextVar[RequestScope | None] = ContextVar("otel_canonical_scope", default=None)


class RequestScope:
    """The facts of one request, filled in by whoever knows them, until `claim` closes it.

    What nobody has filled in is the class's: a request pays for the facts that it has. Names say the
    clock: `_ns` is `time.monotonic_ns`, `_wall_ns` is `time.time_ns`, `_cpu_ns` is
    `time.thread_time_ns`.
    """

    query_string: str = ""
    scheme: str | None = None
    proto: str | None = None
    host: str | None = None
    client: str | None = None
    content_length: int | None = None
    root: Any = None
    route: str | None = None
    view: str | None = None
    url_name: str | None = None
    url_kwargs: Mapping[str, object] | None = None
    user_id: str | None = None
    django_request: Any = None
    django_response: Any = None
    status: int | None = None
    bytes_written: int | None = None
    first_byte_ns: int | None = None
    ended_ns: int | None = None
    ended_cpu_ns: int | None = None
    client_gone: bool = False
    #: The exception that the server was handling when the request came; not one of the request.
    outer_error: BaseException | None = None
    error: ErrorFacts | None = None
    queries: QueryTally | None = None
    calls: dict[str, CallTally] | None = None
    template_renders: int = 0
    template_ns: int = 0
    template_depth: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_ns: int = 0
    app: dict[str, FieldValue] | None = None
    timers: dict[str, CallTally] | None = None
    pid: int | None = None
    worker_requests: int | None = None
    keeper: Keeper | None = None
    slot: Slot | None = None
    pool: PoolState | None = None
    #: What the watchdog saw at the deadline, and when the request was slow.
    stuck: Sighting | None = None
    slow: Sighting | None = None
    is_exempt_from_slow: bool = False
    #: The arbiter has aborted the worker while this request was open.
    is_aborted: bool = False
    #: Spans under way, by span id, in the order in which they began; of exported traces only.
    open_spans: dict[int, Any] | None = None
    #: Whether facts may still be added: until the event is made. Code that a request has left
    #: behind in a thread or task may come later, and must not write into a finished one.
    is_open: bool = True

    def __init__(
        self, *, method: str, path: str, headers: Mapping[str, str], request_id: str
    ) -> None:
        self.started_ns = time.monotonic_ns()
        self.started_wall_ns = time.time_ns()
        self.started_cpu_ns = time.thread_time_ns()
        self.thread_id = threading.get_ident()
        self.method = method
        self.path = path
        self.headers = headers
        self.request_id = request_id
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

    def add_query(self, text: str, elapsed_ns: int, failed: bool) -> None:
        """Count one database query. `text` is the SQL before its parameters are filled in."""
        if self.queries is None:
            self.queries = QueryTally()
        self.queries.add_query(text, elapsed_ns, failed)
        if self.slot is not None:
            self.slot.set_queries(self.queries.count)

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


def open_scope() -> RequestScope | None:
    """Return the request that this code runs for; None outside one and after it has ended."""
    scope = current_scope.get()
    return scope if scope is not None and scope.is_open else None
