"""Which headers propagators read, and one that sends the caller's trace context while nothing is exported.

Lives in the worker. Propagators name headers as they like (`X-Amzn-Trace-Id`), and `fields` names those
that they write, not those that they read (B3's `b3`). So they are asked.

A site that exports nothing still counts outgoing calls by their spans, which aren't
sampled. A called service follows that decision: sending it would switch off tracing in other services.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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

from otel_canonical.internal_errors import guarded
from otel_canonical.otel.root_span import SCOPE_KEY, OtelRoot
from otel_canonical.request.scope import RequestScope

#: No more of a header is parsed for a trace context.
LONGEST_CONTEXT = 8192


class HeaderGetter(Getter[Mapping[str, str]]):
    """Reads a request's headers, whose names are in capitals, by names in any spelling."""

    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        """Return the header's value, cut, in a list; None without that header."""
        value = carrier.get(key.upper())
        return None if value is None else [value[:LONGEST_CONTEXT]]

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        """Return the names of all headers that were kept, in small letters, as servers have them."""
        return [name.lower() for name in carrier]


HEADERS = HeaderGetter()


class _Asked(HeaderGetter):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        self.names.add(key.upper())
        return super().get(carrier, key)


def headers_read_by(propagator: TextMapPropagator) -> frozenset[str]:
    """Return the names of the headers that a propagator reads, in capitals.

    Limit: of headers that are found by a prefix (Jaeger's `uberctx-…`, OpenTracing's `ot-baggage-…`,
    both baggage) none are.
    """
    asked = _Asked()
    with guarded("asking a propagator for the headers that it reads"):
        propagator.extract({}, Context(), asked)
    return frozenset(asked.names.union(name.upper() for name in propagator.fields))


class CallerOnlyPropagator(TextMapPropagator):
    """Wraps the user's propagators and passes the incoming trace context on unchanged.

    Args:
        propagator: the user's.
        is_exporting: returns whether spans are exported after all; then nothing is changed.
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
        """Inject the caller's span in place of ours; baggage stays as it is."""
        if not self._is_exporting():
            scope = otel_context.get_value(SCOPE_KEY, context)
            caller: trace.Span = trace.INVALID_SPAN
            if isinstance(scope, RequestScope) and isinstance(scope.root, OtelRoot):
                caller = scope.root.caller_span
            context = trace.set_span_in_context(caller, context)
        self._propagator.inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        """Return the fields of the user's propagators."""
        return self._propagator.fields
