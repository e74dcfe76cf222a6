"""Spans of Django's queries, with the attributes that `opentelemetry-instrumentation-dbapi` would set.

Lives where the app is loaded; no spans are made before the worker's SDK is set up. Beside upstream's
attributes a span has `db.operation.name` and, when the query failed, `error.type` and the database's own
code. Messages of errors are redacted, like everything else that leaves.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from otel_canonical.internal_errors import guarded_call
from otel_canonical.otel import driver_instrumentations
from otel_canonical.otel.prepared_spans import DirectWay, PendingSpan, Shape
from otel_canonical.otel.root_span import SCOPE_KEY
from otel_canonical.request.scope import RequestScope

#: One comment at the very beginning is no part of a statement's first word.
_LEADING_COMMENT = re.compile(r"^/\*.*?\*/")

_FIRST_WORD = re.compile(r"\S+").search

#: Bounds what is remembered: servers, statements of each, and the characters of a statement.
MOST_SERVERS, MOST_STATEMENTS, LONGEST_REMEMBERED = 16, 256, 2000

RedactAttributes = Callable[[Mapping[str, AttributeValue]], Mapping[str, AttributeValue]]
FindWay = Callable[[SdkSpan], DirectWay | None]


@dataclass(frozen=True, slots=True)
class Server:
    """The database behind a connection; what isn't known is empty or None."""

    #: A name of the semantic conventions: `postgresql`, `mysql`, `sqlite`.
    system: str
    database: str = ""
    user: str = ""
    address: str = ""
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a query failed: the driver's own exception, and the database's code for it."""

    error: BaseException
    code: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """What all spans of a connection's queries have in common."""

    attributes: Mapping[str, AttributeValue]
    #: The name of a span whose statement has no first word.
    name: str
    #: Spans by their statements, most of which come again in other requests.
    shapes: dict[str, Shape]


@dataclass(slots=True)
class _Maker:
    """What makes the spans; no tracer until the SDK is set up."""

    tracer: Tracer | None = None
    redact: Callable[[str], str] = str
    redact_attributes: RedactAttributes = dict
    find_way: FindWay | None = None
    #: The way past the SDK, if there is one and it was looked for.
    way: DirectWay | None = None
    has_looked: bool = False
    #: Which names attributes have: those of the stable conventions, the former ones, or both.
    is_new: bool = True
    is_old: bool = False


_maker = _Maker()


def make_with(
    tracer: Tracer,
    redact: Callable[[str], str],
    redact_attributes: RedactAttributes,
    find_way: FindWay,
) -> None:
    """Make spans from now on, under the names that the user has opted into.

    Args:
        tracer: makes the spans.
        redact: removes the secrets from a text.
        redact_attributes: removes them from attributes.
        find_way: returns the way past the SDK, given a span that the SDK has made.
    """
    _maker.tracer = tracer
    _maker.redact = redact
    _maker.redact_attributes = redact_attributes
    _maker.is_new, _maker.is_old = _names_of("database")
    _maker.find_way = find_way
    _facts.clear()
    look_again()


def look_again() -> None:
    """Look for the way past the SDK again: a span processor was added."""
    _maker.way, _maker.has_looked = None, False


def are_made() -> bool:
    """Return whether this process makes spans of queries."""
    return _maker.tracer is not None


def are_wanted_outside_requests() -> bool:
    """Return whether a query of no request gets a span: in a trace, or if its driver would make one."""
    if _maker.tracer is None or not is_instrumentation_enabled():
        return False
    return driver_instrumentations.was_any_bypassed() or trace.get_current_span().is_recording()


def facts_of(server: Server) -> ConnectionFacts:
    """Return what spans say of a connection."""
    facts = _facts.get(server)
    if facts is None:
        if len(_facts) >= MOST_SERVERS:
            _facts.clear()
        facts = _facts[server] = ConnectionFacts(
            _attributes_of(server), server.database or server.system, {}
        )
    return facts


def _attributes_of(server: Server) -> dict[str, AttributeValue]:
    facts: dict[str, AttributeValue] = {}
    if _maker.is_new:
        facts["db.system.name"] = server.system
        if server.database:
            facts["db.namespace"] = server.database
    if _maker.is_old:
        facts["db.system"] = server.system
        if server.database:
            facts["db.name"] = server.database
        if server.user:
            facts["db.user"] = server.user
    is_new, is_old = _names_of("http")
    for names, is_wanted in ((_NEW_PEER, is_new), (_OLD_PEER, is_old)):
        if is_wanted and server.address:
            facts[names[0]] = server.address
            if server.port is not None:
                facts[names[1]] = server.port
    return facts


def start(
    facts: ConnectionFacts, text: str, scope: RequestScope | None, *, is_procedure: bool = False
) -> Span | PendingSpan:
    """Start the span of a query as a child of the current span.

    Args:
        facts: of its connection.
        text: the SQL before its parameters are filled in, or a procedure's name.
        scope: the request that asks; None if there is none.
        is_procedure: whether it is called by `callproc`.
    """
    shape = (facts.shapes.get(text) if not is_procedure else None) or _learn(
        facts, text, is_procedure
    )
    if _maker.way is not None and scope is not None:
        context = otel_context.get_current()
        parent = trace.get_current_span(context).get_span_context()
        if parent.trace_flags.sampled and not parent.is_remote:
            if scope.open_spans is None:
                scope.open_spans = {}
            return PendingSpan(_maker.way, shape, context, parent, scope.open_spans)
    assert _maker.tracer is not None  # callers ask `are_made` first
    span = _maker.tracer.start_span(shape.name, kind=shape.kind, attributes=shape.raw)
    if not _maker.has_looked and _maker.find_way is not None and isinstance(span, SdkSpan):
        _maker.has_looked = True
        _maker.way = _maker.find_way(span)
    return span


def _learn(facts: ConnectionFacts, text: str, is_procedure: bool) -> Shape:
    operation = operation_of(text)
    attributes = dict(facts.attributes)
    if _maker.is_new:
        attributes["db.query.text"] = text
        if is_procedure:
            attributes["db.stored_procedure.name"] = text
        elif operation:
            attributes["db.operation.name"] = operation
    if _maker.is_old:
        attributes["db.statement"] = text
    shown = _maker.redact_attributes(attributes)
    shape = Shape(operation or facts.name, SpanKind.CLIENT, shown, attributes)
    if not is_procedure and len(text) <= LONGEST_REMEMBERED:
        if len(facts.shapes) >= MOST_STATEMENTS:
            facts.shapes.clear()
        facts.shapes[text] = shape
    return shape


@guarded_call("recording the failure of a query on its span")
def fail(span: Span, failure: Failure) -> None:
    """Record on a span why its query failed; the span is not ended."""
    error = failure.error
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    redact = _maker.redact
    message = redact(str(error))
    span.set_attribute("error.type", name)
    if failure.code:
        span.set_attribute("db.response.status_code", failure.code)
    span.set_status(StatusCode.ERROR, f"{kind.__name__}: {message}")
    stack = "".join(traceback.format_exception(kind, error, error.__traceback__))
    facts = {
        "exception.type": name,
        "exception.message": message,
        "exception.stacktrace": redact(stack),
        "exception.escaped": "False",
    }
    span.add_event("exception", facts)


def operation_of(text: str) -> str:
    """Return a statement's first word as it is written; empty if there is none."""
    found = _FIRST_WORD(text)
    if found is None:
        return ""
    if found[0].startswith("/*"):
        found = _FIRST_WORD(_LEADING_COMMENT.sub("", text))
    return found[0] if found is not None else ""


def carried_scope() -> RequestScope | None:
    """Return the open request in OpenTelemetry's context: threads may carry that one alone."""
    scope = otel_context.get_value(SCOPE_KEY)
    return scope if isinstance(scope, RequestScope) and scope.is_open else None


#: What spans say of the servers that were seen.
_facts: dict[Server, ConnectionFacts] = {}

_NEW_PEER = ("server.address", "server.port")
_OLD_PEER = ("net.peer.name", "net.peer.port")


def _names_of(kind: str) -> tuple[bool, bool]:
    """Return whether attributes have their stable names, and whether they have their former ones."""
    opted = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
    names = {name.strip() for name in opted}
    if f"{kind}/dup" in names:
        return True, True
    return kind in names, kind not in names
