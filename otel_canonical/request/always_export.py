"""The rule that exports errors, timeouts, lost and slow requests whatever the sampler decided. Pure.

Applied when a request's outcome is known: in the worker, and for lost requests in the arbiter.
"""

from __future__ import annotations

from otel_canonical.event.event import FIRST_SERVER_ERROR, EventType
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings

ERROR, TIMEOUT, LOST, SLOW = "error", "timeout", "lost", "slow"

FIRST_CLIENT_ERROR = 400


class AlwaysExport:
    """The kinds of requests that `OTEL_PYTHON_CANONICAL_ALWAYS_EXPORT` names."""

    def __init__(self, settings: Settings) -> None:
        self._always = settings.always_export
        slow_s = settings.slow_seconds
        self._slow_ns = round(slow_s * 1e9) if slow_s is not None else None

    @property
    def is_on(self) -> bool:
        """Return whether there is a rule at all."""
        return bool(self._always)

    @property
    def exports_slow(self) -> bool:
        """Return whether a request is exported for being slow."""
        return "slow" in self._always

    @property
    def exports_timeouts(self) -> bool:
        """Return whether a request is exported for having timed out."""
        return "timeouts" in self._always

    def reason(self, scope: RequestScope, event_type: EventType) -> str | None:
        """Return why the rule exports a request that has ended; None if it doesn't."""
        always = self._always
        is_late = event_type is EventType.TIMEOUT or scope.stuck is not None
        if is_late and "timeouts" in always:
            return TIMEOUT
        if event_type is EventType.LOST and "lost" in always:
            return LOST
        if "errors" in always and _has_failed(scope):
            return ERROR
        elapsed_ns = (scope.ended_ns or scope.started_ns) - scope.started_ns
        if not scope.is_exempt_from_slow and self._is_slow(elapsed_ns):
            return SLOW
        return None

    def reason_when_lost(self, event_type: EventType, elapsed_ns: int) -> str | None:
        """Return why the rule exports a request whose worker died; None if it doesn't."""
        if event_type is EventType.TIMEOUT and "timeouts" in self._always:
            return TIMEOUT
        if event_type is EventType.LOST and "lost" in self._always:
            return LOST
        return SLOW if self._is_slow(elapsed_ns) else None

    def _is_slow(self, elapsed_ns: int) -> bool:
        return self._slow_ns is not None and "slow" in self._always and elapsed_ns > self._slow_ns


def _has_failed(scope: RequestScope) -> bool:
    """Return whether the server failed: a 5xx, no answer, or an answer cut short by an exception."""
    if scope.client_gone:
        return False
    status = scope.status
    if status is None or status >= FIRST_SERVER_ERROR:
        return True
    # An exception that became a 4xx is the client's error; one after a 200 has cut its body short.
    return scope.error is not None and status < FIRST_CLIENT_ERROR
