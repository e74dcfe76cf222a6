"""What a request knows of its root span, without knowing OpenTelemetry.

`otel.root_span` has the implementation, `otel.root_factory` the factory. Code below `otel` sees only
these protocols; code that needs the span itself asks `otel.root_span.root_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from otel_canonical.pool.slots import UNEXPORTED

if TYPE_CHECKING:
    from otel_canonical.event.event import CanonicalEvent
    from otel_canonical.request.scope import RequestScope

    Replaced = Callable[[CanonicalEvent], Mapping[str, str]]


class Root(Protocol):
    """The root of a request: its ids, and whether its trace is exported."""

    #: Why it is exported whatever the sampler said; None unless a rule of the operator's asked for it.
    export_rule: str | None

    @property
    def trace_id(self) -> str:
        """32 hex digits; empty if the request has no trace."""

    @property
    def span_id(self) -> str:
        """16 hex digits; empty if the request has no trace."""

    @property
    def is_named(self) -> bool:
        """Whether the ids name anything: spans or log events are exported, or the caller has sent a trace."""

    @property
    def is_exported(self) -> bool:
        """Whether the trace is exported, as far as that is known yet."""

    @property
    def is_recorded(self) -> bool:
        """Whether spans are made: the trace is exported, or a rule may still ask for it at the end."""

    @property
    def mark(self) -> int:
        """How the scoreboard shows it: `slots.UNEXPORTED`, `EXPORTED` or `KEPT`."""

    @property
    def caller(self) -> object | None:
        """The incoming trace context, None if there is none."""

    @property
    def caller_span_id(self) -> str:
        """The caller's span, 16 hex digits; empty if there is none."""

    def finish(self, event: CanonicalEvent, scope: RequestScope, replaced: Replaced) -> None:
        """Write the event onto the span, if there is one, and end it.

        Args:
            event: the event to write.
            scope: its request, closed.
            replaced: returns values for attributes that must not leave as an instrumentation has set
                them.
        """

    def detach(self) -> None:
        """Restore the OpenTelemetry context that was current before the request."""

    def abandon(self) -> None:
        """Make `detach` do nothing: the request's context is gone, or another one is current."""


class NoRoot:
    """The root of a scope that hasn't been given one: no ids, nothing exported, nothing to undo."""

    trace_id = span_id = caller_span_id = ""
    is_exported = is_recorded = is_named = False
    mark = UNEXPORTED
    caller: object | None = None
    export_rule: str | None = None

    def finish(self, event: CanonicalEvent, scope: RequestScope, replaced: Replaced) -> None:
        """Do nothing."""

    def detach(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""


#: What a new scope has until `RootFactory.open` replaces it, so that `scope.root` is never None.
NO_ROOT = NoRoot()


class RootFactory(Protocol):
    """Gives each request its root."""

    #: Headers that carry trace contexts, in capitals.
    header_names: frozenset[str]
    #: Whether requests that the sampler drops are recorded, so that a rule can export them at their end.
    keeps_unsampled: bool

    def export_kept(self, scope: RequestScope) -> None:
        """Export the kept spans of a request that the sampler has dropped."""

    def open(self, scope: RequestScope, digits: str, *, is_called: bool) -> Root:
        """Set the root of a new scope and return it.

        Args:
            scope: a request that was just accepted.
            digits: random hex digits, of which the first 48 are for its ids.
            is_called: False if no header can hold a trace context; then none is looked at.
        """
