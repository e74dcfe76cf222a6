"""What went wrong with a request, as its event shows it: exceptions, and where it was seen. Pure."""

from __future__ import annotations

import functools

from otel_canonical.event.event import EventType, Stacks
from otel_canonical.event.fields import ERROR_STACK_ATTRIBUTE, STACK_ATTRIBUTE, FieldValue
from otel_canonical.event.redaction import RedactionPolicy
from otel_canonical.event.rows import seconds
from otel_canonical.request.scope import RequestScope
from otel_canonical.settings import Settings
from otel_canonical.stacks import errors
from otel_canonical.stacks.errors import ErrorFacts
from otel_canonical.stacks.text import short

Pairs = list[tuple[str, FieldValue]]


class FailureFacts:
    """Shows exceptions and stacks under one redaction policy and the operator's choice of fields."""

    def __init__(self, settings: Settings, redaction: RedactionPolicy) -> None:
        self._settings = settings
        self._redaction = redaction

    def pairs(self, scope: RequestScope, event_type: EventType) -> Pairs:
        """Return what went wrong, and where the watchdog saw the request."""
        pairs: Pairs = []
        if scope.client_gone:
            pairs.append(("client_gone", True))
        _add_sightings(pairs, scope, event_type)
        if scope.lost_cause is not None and event_type is EventType.LOST:
            pairs.append(("lost_cause", scope.lost_cause))
        if scope.error is not None:
            pairs += self.of_error(scope.error)
        return pairs

    def stack(self, scope: RequestScope, seen: str, *, is_last: bool) -> str | Stacks:
        """Return the stacks of a request's event.

        Args:
            scope: the request.
            seen: the stack that the watchdog has sampled, if it has.
            is_last: whether the scope needs its exception no longer.
        """
        error = scope.error
        if error is None:
            return seen
        if is_last:
            # From here on only the event refers to the exception, and the event is soon gone.
            scope.error = error.without_stack()
        return self.error_stack(error, seen)

    def error_stack(self, error: ErrorFacts, seen: str) -> str | Stacks:
        """Return the stacks of an exception, and of a sample."""
        excluded = self._settings.excluded_fields
        # A stack ends with the exception's message.
        if error.raised is None or (excluded is not None and excluded.match("exc_msg")):
            return seen
        return functools.partial(self._stacks, error.raised, seen)

    def _stacks(self, error: BaseException, seen: str) -> dict[str, str]:
        stacks = {ERROR_STACK_ATTRIBUTE: errors.stack_of(error, self._redaction.text)}
        if seen:
            stacks[STACK_ATTRIBUTE] = seen
        return stacks

    def of_error(self, error: ErrorFacts) -> Pairs:
        """Return what an event shows of an exception."""
        pairs: Pairs = [("exc_type", error.type)]
        if error.message:
            pairs.append(("exc_msg", self._redaction.text(error.message)))
        if error.loc is not None:
            pairs.append(("exc_loc", error.loc))
        if error.cause_loc is not None:
            pairs.append(("exc_cause_loc", error.cause_loc))
        if error.template is not None:
            pairs.append(("exc_template", error.template))
        return pairs


def _add_sightings(pairs: Pairs, scope: RequestScope, event_type: EventType) -> None:
    stuck, slow = scope.stuck, scope.slow
    if stuck is not None:
        if event_type is EventType.REQUEST:
            pairs.append(("deadline_exceeded", True))
        if stuck.loc is not None:
            pairs.append(("timeout_loc", stuck.loc))
        if stuck.cause_loc is not None:
            pairs.append(("timeout_cause_loc", stuck.cause_loc))
        pairs.append(("timeout_seen", seconds(stuck.seen_ns - scope.started_ns)))
    if slow is not None and slow.cause_loc is not None:
        if slow.loc is not None:
            pairs.append(("slow_loc", slow.loc))
        pairs.append(("slow_cause_loc", slow.cause_loc))
        if event_type is EventType.SLOW:
            pairs.append(("slow_stack", short(slow.stack)))
