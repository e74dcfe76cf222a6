"""What outgoing calls carry while nothing is exported: the caller's trace, or none, but not ours.

Lives in the worker. A site that exports nothing still counts its outgoing calls by their spans. Those
aren't sampled, and a service that is told so doesn't sample either: to say it for a trace that nobody
keeps would switch other people's tracing off.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from otel_canonical.otel.root_span import SCOPE_KEY
from otel_canonical.request.scope import RequestScope


class CallerOnlyPropagator(TextMapPropagator):
    """Passes the incoming trace context on as it came, around the propagators the user has chosen.

    Args:
        propagator: theirs.
        is_exporting: returns whether spans leave the process after all; then theirs is obeyed.
    """

    def __init__(self, propagator: TextMapPropagator, is_exporting: Callable[[], bool]) -> None:
        self._propagator = propagator
        self._is_exporting = is_exporting

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Extract as the user's propagators do."""
        return self._propagator.extract(carrier, context, getter)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Inject the caller's span in place of ours; baggage and the like as they are."""
        if not self._is_exporting():
            scope = otel_context.get_value(SCOPE_KEY, context)
            caller = trace.INVALID_SPAN
            if isinstance(scope, RequestScope):
                caller = scope.root.caller_span
            context = trace.set_span_in_context(caller, context)
        self._propagator.inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        """Return the fields of the user's propagators."""
        return self._propagator.fields
